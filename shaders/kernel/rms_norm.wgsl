// rms_norm: y = x * weight / sqrt(mean(x^2) + eps) of every head of every row; `cols` elements each; and maxima, the
// largest |y| of every head, by which the codes of y are scaled.
// Partition: one workgroup per head.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups);
    if at >= params.m * params.heads { return; }
    let row = at / params.heads;
    let column = (at - row * params.heads) * params.cols;
    let first = row * params.x_stride + column;
    var squares = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { squares += x[first + k] * x[first + k]; }
    let mean = workgroup_sum(squares, lane) / f32(params.cols);
    var largest = 0.0;
    let factor = 1.0 / sqrt(mean + bitcast<f32>(params.eps));
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        let value = x[first + k] * factor * weight[k];
        largest = max(largest, abs(value));
        y[row * params.y_stride + column + k] = value;
    }
    let most = workgroup_max(largest, lane);
    if lane == 0u { maxima[at] = most; }
}
