// rope_quads: rope, four pairs at a time (lib/rotated.wgsl). Partition: one invocation per four pairs of a head.
// Preconditions: half a head, strides and offset are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let r = rotated(folded(group, groups) * WORKGROUP + lane);
    if r.t >= params.m { return; }
    let destination = r.t * (params.y_stride / 4u) + r.column;
    y_put(destination, r.low);
    y_put(destination + half_quads(), r.high);
}
