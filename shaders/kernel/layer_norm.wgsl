// layer_norm: y = (x - mean) / sqrt(variance + eps) * weight + bias; two passes, so that a large mean
// does not cancel the variance. Partition: one workgroup per row.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    let first = row * params.x_stride;
    var sum = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { sum += x[first + k]; }
    let mean = workgroup_sum(sum, lane) / f32(params.cols);
    var squares = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        let d = x[first + k] - mean;
        squares += d * d;
    }
    let variance = workgroup_sum(squares, lane) / f32(params.cols);
    let factor = 1.0 / sqrt(variance + bitcast<f32>(params.eps));
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        y[row * params.y_stride + k] = (x[first + k] - mean) * factor * weight[k] + bias[k];
    }
}
