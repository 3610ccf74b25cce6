// RoPE of eight pairs of a head.
struct Rotated { low: Pair, high: Pair }  // the two halves

// Half a head, in eights.
fn half_head() -> u32 { return params.half_dim / 8u; }

// Eight pairs: of which head, from which pair of it on (in eights), and from which element of a row (in eights).
struct Eight { head: u32, i: u32, column: u32 }

fn eight_of(eight: u32) -> Eight {
    let head = eight / half_head();
    let i = eight - head * half_head();
    return Eight(head, i, 2u * head * half_head() + i);
}

// The eights a and, half a head further, b of token t, from eight i of a head on.
fn rotated(a: Pair, b: Pair, t: u32, i: u32) -> Rotated {
    // (cos, sin) of four pairs
    let r = 2u * (tokens[t].position * half_head() + i);
    let first = rotation_pair(r);
    let second = rotation_pair(r + 1u);
    let c = Pair(vec4<f32>(first.low.xz, first.high.xz), vec4<f32>(second.low.xz, second.high.xz));
    let s = Pair(vec4<f32>(first.low.yw, first.high.yw), vec4<f32>(second.low.yw, second.high.yw));
    return Rotated(Pair(a.low * c.low - b.low * s.low, a.high * c.high - b.high * s.high),
                   Pair(b.low * c.low + a.low * s.low, b.high * c.high + a.high * s.high));
}
