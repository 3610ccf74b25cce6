// Two consecutive vec4 of a row, moved as one of 64-bit words (lib/long.wgsl).
struct Pair { low: PairOf, high: PairOf }

fn halves(v: vec4<u64>) -> Pair {
    return Pair(bitcast<PairOf>(as_quad(v.xy)), bitcast<PairOf>(as_quad(v.zw)));
}

fn whole(p: Pair) -> vec4<u64> {
    return vec4<u64>(as_long(bitcast<vec4<u32>>(p.low)), as_long(bitcast<vec4<u32>>(p.high)));
}
