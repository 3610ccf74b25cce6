// cross_entropy: y[row] = log(sum exp(x[row, :])) - x[row, target], in nats. Partition: one workgroup per row.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    let first = row * params.x_stride;
    var largest = -3.4e38;
    for (var k = lane; k < params.cols; k += WORKGROUP) { largest = max(largest, x[first + k]); }
    largest = workgroup_max(largest, lane);
    var sum = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { sum += exp(x[first + k] - largest); }
    sum = workgroup_sum(sum, lane);
    if lane == 0u { y[row] = (largest - x[first + targets[row]]) + log(sum); }
}
