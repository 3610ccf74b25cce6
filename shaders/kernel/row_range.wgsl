// row_range: ranges[m] = (min(0, min_k x[m, k]), max(0, max_k x[m, k])). Partition: one workgroup per row.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    var low = 0.0;
    var high = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        let value = x[row * params.x_stride + k];
        low = min(low, value);
        high = max(high, value);
    }
    low = -workgroup_max(-low, lane);
    high = workgroup_max(high, lane);
    if lane == 0u { ranges[row] = vec2<f32>(low, high); }
}
