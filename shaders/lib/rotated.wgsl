// RoPE of four pairs of a head: which they are, and their two quads, rotated.
struct Rotated {
    t: u32,       // row of the batch; params.m and above: none
    column: u32,  // quad of the row that `low` is, from the first head on; `high` is half a head further
    low: vec4<f32>,
    high: vec4<f32>,
}

// Quads of half a head.
fn half_quads() -> u32 { return params.half_dim / 4u; }

// The pairs of invocation `at` of those of all heads of all rows.
fn rotated(at: u32) -> Rotated {
    let half = half_quads();
    let quads = params.heads * half;
    let t = at / quads;
    if t >= params.m { return Rotated(t, 0u, vec4<f32>(), vec4<f32>()); }
    let quad = at % quads;
    let head = quad / half;
    let i = quad - head * half;
    // (cos, sin) of two pairs
    let r = 2u * (tokens[t].position * half + i);
    let first = rotation_at(r);
    let second = rotation_at(r + 1u);
    let c = vec4<f32>(first.xz, second.xz);
    let s = vec4<f32>(first.yw, second.yw);
    let column = 2u * head * half + i;
    let source = (t * params.x_stride + params.x_offset) / 4u + column;
    let a = x_at(source);
    let b = x_at(source + half);
    return Rotated(t, column, a * c - b * s, b * c + a * s);
}
