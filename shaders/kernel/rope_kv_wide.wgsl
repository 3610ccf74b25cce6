// rope_kv_wide: rope of the keys x, straight into their cache, eight pairs at a time (lib/rotated.wgsl), and the same
// elements of the values z into theirs.
// Partition: one invocation per eight pairs of a head.
// Preconditions: half a head, strides and offsets are multiples of 8, so that heads of the caches have no padding.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let r = rotated(folded(group, groups) * WORKGROUP + lane);
    if r.t >= params.m { return; }
    let half = half_head();
    let source = (r.t * params.z_stride + params.z_offset) / 8u + r.column;
    let slot = tokens[r.t].sequence * params.context + tokens[r.t].position;
    let destination = slot * 2u * params.heads * half + r.column;
    k_cache_put(destination, r.low);
    k_cache_put(destination + half, r.high);
    v_cache_put(destination, z_pair(source));
    v_cache_put(destination + half, z_pair(source + half));
}
