// Two consecutive vec4 of a row, loaded as one of 64-bit words: a software driver loads storage by a loop over the
// invocations, which takes as long whatever it loads.
struct Pair { low: PairOf, high: PairOf }

fn halves(v: vec4<u64>) -> Pair {
    let low = vec4<u32>(u32(v.x), u32(v.x >> 32u), u32(v.y), u32(v.y >> 32u));
    let high = vec4<u32>(u32(v.z), u32(v.z >> 32u), u32(v.w), u32(v.w >> 32u));
    return Pair(bitcast<PairOf>(low), bitcast<PairOf>(high));
}
