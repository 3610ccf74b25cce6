// rope_kv_quads: rope of the keys, straight into their cache, four pairs at a time.
// Partition: one invocation per four pairs of a head.
// Preconditions: half a head, strides and offset are multiples of 4, so that heads of the cache have no padding.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let half = params.half_dim / 4u;
    let quads = params.heads * half;
    let at = folded(group, groups) * WORKGROUP + lane;
    let t = params.m_first + at / quads;
    if t >= params.m { return; }
    let quad = at % quads;
    let head = quad / half;
    let i = quad - head * half;
    let position = tokens[t].position;
    // (cos, sin) of two pairs
    let r = 2u * (position * half + i);
    let first = rotation[r];
    let second = rotation[r + 1u];
    let c = vec4<f32>(first.xz, second.xz);
    let s = vec4<f32>(first.yw, second.yw);
    let column = 2u * head * half + i;
    let source = (t * params.x_stride + params.x_offset) / 4u + column - params.x_base;
    let a = x[source];
    let b = x[source + half];
    let slot = tokens[t].sequence * params.context + position;
    let destination = slot * 2u * quads + column;
    cache[destination] = a * c - b * s;
    cache[destination + half] = b * c + a * s;
}
