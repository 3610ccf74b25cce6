// absmax_direct: absmax for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Partition: one invocation per row. Preconditions: columns and strides are multiples of 8.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups) * TILE_M + lane;
    if row >= params.m { return; }
    let first = row * (params.x_stride / 8u);
    var largest = vec4<f32>();
    for (var i = 0u; i < params.cols / 8u; i++) {
        let v = x_pair(first + i);
        largest = max(largest, max(abs(v.low), abs(v.high)));
    }
    maxima[row] = max(max(largest.x, largest.y), max(largest.z, largest.w));
}
