// rope_wide: rope, eight pairs at a time (lib/rotated.wgsl). Partition: one invocation per eight pairs of a head.
// Preconditions: half a head, strides and offset are multiples of 8.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let r = rotated(folded(group, groups) * WORKGROUP + lane);
    if r.t >= params.m { return; }
    let destination = r.t * (params.y_stride / 8u) + r.column;
    y_put(destination, r.low);
    y_put(destination + half_head(), r.high);
}
