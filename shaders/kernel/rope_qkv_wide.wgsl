// rope_qkv_wide: rope of the queries x and of the keys k, eight pairs at a time (lib/rotated.wgsl); queries to y, keys straight into
// their cache, and the same elements of the values v into theirs.
// QUERIES: 0 leaves the queries to rope_wide, as a software driver would run both branches for every invocation.
// Partition: one invocation per eight pairs of a head of x, then of k.
// Preconditions: half a head, strides and offsets are multiples of 8, so that heads of the caches have no padding.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let half = half_head();
    let heads = QUERIES * params.heads;
    let eights = (heads + params.kv_heads) * half;
    let t = at / eights;
    if t >= params.m { return; }
    let e = eight_of(at % eights);
    if QUERIES == 1u && e.head < heads {
        let source = (t * params.x_stride + params.x_offset) / 8u + e.column;
        let r = rotated(x_pair(source), x_pair(source + half), t, e.i);
        let destination = t * (params.y_stride / 8u) + e.column;
        y_put(destination, r.low);
        y_put(destination + half, r.high);
    } else {
        let column = e.column - 2u * heads * half;
        let source = (t * params.k_stride + params.k_offset) / 8u + column;
        let r = rotated(k_pair(source), k_pair(source + half), t, e.i);
        let values = (t * params.v_stride + params.v_offset) / 8u + column;
        let slot = tokens[t].sequence * params.context + tokens[t].position;
        let destination = slot * 2u * params.kv_heads * half + column;
        k_cache_put(destination, r.low);
        k_cache_put(destination + half, r.high);
        v_cache_put(destination, v_pair(values));
        v_cache_put(destination + half, v_pair(values + half));
    }
}
