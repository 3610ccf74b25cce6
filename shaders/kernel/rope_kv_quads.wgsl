// rope_kv_quads: rope of the keys, straight into their cache, four pairs at a time (lib/rotated.wgsl).
// Partition: one invocation per four pairs of a head.
// Preconditions: half a head, strides and offset are multiples of 4, so that heads of the cache have no padding.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let r = rotated(folded(group, groups) * WORKGROUP + lane);
    if r.t >= params.m { return; }
    let slot = tokens[r.t].sequence * params.context + tokens[r.t].position;
    let destination = slot * 2u * params.heads * half_quads() + r.column;
    cache[destination] = r.low;
    cache[destination + half_quads()] = r.high;
}
