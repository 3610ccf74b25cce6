// softmax: y[row, :] = exp(x - max) / sum exp(x - max). Partition: one workgroup per row.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    var largest = -3.4e38;
    for (var k = lane; k < params.cols; k += WORKGROUP) { largest = max(largest, x[row * params.x_stride + k]); }
    largest = workgroup_max(largest, lane);
    var sum = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { sum += exp(x[row * params.x_stride + k] - largest); }
    let factor = 1.0 / workgroup_sum(sum, lane);
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        y[row * params.y_stride + k] = exp(x[row * params.x_stride + k] - largest) * factor;
    }
}
