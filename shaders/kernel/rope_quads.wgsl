// rope_quads: rope, four pairs at a time. Partition: one invocation per four pairs of a head.
// Preconditions: half a head, strides and offset are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let half = params.half_dim / 4u;
    let quads = params.heads * half;
    let at = folded(group, groups) * WORKGROUP + lane;
    let t = params.m_first + at / quads;
    if t >= params.m { return; }
    let quad = at % quads;
    let head = quad / half;
    let i = quad - head * half;
    // (cos, sin) of two pairs
    let r = 2u * (tokens[t].position * half + i);
    let first = rotation[r];
    let second = rotation[r + 1u];
    let c = vec4<f32>(first.xz, second.xz);
    let s = vec4<f32>(first.yw, second.yw);
    let column = 2u * head * half + i;
    let source = (t * params.x_stride + params.x_offset) / 4u + column - params.x_base;
    let a = x[source];
    let b = x[source + half];
    let destination = t * (params.y_stride / 4u) + column;
    y[destination] = a * c - b * s;
    y[destination + half] = b * c + a * s;
}
