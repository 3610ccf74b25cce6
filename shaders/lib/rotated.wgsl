// RoPE of eight pairs of a head: which they are, and their two halves, rotated.
struct Rotated {
    t: u32,       // row of the batch; params.m and above: none
    column: u32,  // eight elements of the row that `low` is, from the first head on; `high` is half a head further
    low: Pair,
    high: Pair,
}

// Half a head, in eights.
fn half_head() -> u32 { return params.half_dim / 8u; }

// The pairs of invocation `at` of those of all heads of all rows.
fn rotated(at: u32) -> Rotated {
    let half = half_head();
    let eights = params.heads * half;
    let t = at / eights;
    if t >= params.m { return Rotated(t, 0u, Pair(), Pair()); }
    let eight = at % eights;
    let head = eight / half;
    let i = eight - head * half;
    // (cos, sin) of four pairs
    let r = 2u * (tokens[t].position * half + i);
    let first = rotation_pair(r);
    let second = rotation_pair(r + 1u);
    let c = Pair(vec4<f32>(first.low.xz, first.high.xz), vec4<f32>(second.low.xz, second.high.xz));
    let s = Pair(vec4<f32>(first.low.yw, first.high.yw), vec4<f32>(second.low.yw, second.high.yw));
    let column = 2u * head * half + i;
    let source = (t * params.x_stride + params.x_offset) / 8u + column;
    let a = x_pair(source);
    let b = x_pair(source + half);
    return Rotated(t, column, Pair(a.low * c.low - b.low * s.low, a.high * c.high - b.high * s.high),
                   Pair(b.low * c.low + a.low * s.low, b.high * c.high + a.high * s.high));
}
