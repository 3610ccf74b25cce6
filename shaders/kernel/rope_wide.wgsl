// rope_wide: rope, eight pairs at a time (lib/rotated.wgsl). Partition: one invocation per eight pairs of a head.
// Preconditions: half a head, strides and offset are multiples of 8.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let half = half_head();
    let t = at / (params.heads * half);
    if t >= params.m { return; }
    let e = eight_of(at % (params.heads * half));
    let source = (t * params.x_stride + params.x_offset) / 8u + e.column;
    let r = rotated(x_pair(source), x_pair(source + half), t, e.i);
    let destination = t * (params.y_stride / 8u) + e.column;
    y_put(destination, r.low);
    y_put(destination + half, r.high);
}
