// kv_write_quads: kv_write, four elements at a time. Partition: one invocation per quad of x.
// Preconditions: heads, strides and offset are multiples of 4, so that heads of the cache have no padding.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let quads = params.width / 4u;
    let t = at / quads;
    if t >= params.m { return; }
    let quad = at % quads;
    let slot = tokens[t].sequence * params.context + tokens[t].position;
    cache_put(slot * quads + quad, x_at((t * params.x_stride + params.x_offset) / 4u + quad));
}
