// rms_norm: y = x * weight / sqrt(mean(x^2) + eps). Partition: one workgroup per row.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    let first = row * params.x_stride;
    var squares = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { squares += x[first + k] * x[first + k]; }
    let mean = workgroup_sum(squares, lane) / f32(params.cols);
    let factor = 1.0 / sqrt(mean + bitcast<f32>(params.eps));
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        y[row * params.y_stride + k] = x[first + k] * factor * weight[k];
    }
}
