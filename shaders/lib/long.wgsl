// Two 64-bit words for a vec4: a software driver moves storage by a loop over the invocations and, within it, word by word
// with a check of bounds for each.
fn as_long(v: vec4<u32>) -> vec2<u64> {
    return vec2<u64>(u64(v.x) | (u64(v.y) << 32u), u64(v.z) | (u64(v.w) << 32u));
}

fn as_quad(v: vec2<u64>) -> vec4<u32> {
    return vec4<u32>(u32(v.x), u32(v.x >> 32u), u32(v.y), u32(v.y >> 32u));
}
