// kv_write: cache[sequence, position, :] = x[t, x_offset ..]. Partition: one invocation per element.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let t = at / params.width;
    if t >= params.m { return; }
    let column = at - t * params.width;
    let slot = tokens[t].sequence * params.context + tokens[t].position;
    cache[slot * params.width + column] = x[t * params.x_stride + params.x_offset + column];
}
