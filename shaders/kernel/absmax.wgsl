// absmax: maxima[m] = max_k |x[m, k]|. Partition: one workgroup per row.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    var largest = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { largest = max(largest, abs(x[row * params.x_stride + k])); }
    let result = workgroup_max(largest, lane);
    if lane == 0u { maxima[row] = result; }
}
