// kv_write: cache[sequence, position, head, 0..head_dim] = x[t, x_offset ..]; heads of the cache are padded to
// whole vec4. Partition: one invocation per element of x.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let t = at / params.width;
    if t >= params.m { return; }
    let column = at - t * params.width;
    let head = column / params.head_dim;
    let stride = (params.head_dim + 3u) / 4u * 4u;
    let slot = tokens[t].sequence * params.context + tokens[t].position;
    cache[(slot * (params.width / params.head_dim) + head) * stride + column - head * params.head_dim] =
        x[t * params.x_stride + params.x_offset + column];
}
