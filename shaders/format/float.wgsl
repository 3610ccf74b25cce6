// f32, f16 and bf16: raw bits, FLOAT_KIND 0, 1, 2. Rows are padded to whole words.
fn pair_bits(pair: u32) -> vec2<u32> {
    if FLOAT_KIND == 1u { return vec2<u32>(half_bits(pair & 0xffffu), half_bits(pair >> 16u)); }
    return vec2<u32>(pair << 16u, pair & 0xffff0000u);
}

fn quad_bits(low: u32, high: u32) -> vec4<u32> { return vec4<u32>(pair_bits(low), pair_bits(high)); }

// Written out: a private array with a run-time index costs a software driver more than the arithmetic.
fn bits_at(row: u32, chunk: u32) -> Bits {
    if FLOAT_KIND == 0u {
        let first = row * params.row_words + chunk * CHUNK;
        return Bits(array<vec4<u32>, 8>(
            four_words(first), four_words(first + 4u), four_words(first + 8u), four_words(first + 12u),
            four_words(first + 16u), four_words(first + 20u), four_words(first + 24u), four_words(first + 28u)));
    }
    let first = row * params.row_words + chunk * (CHUNK / 2u);
    let a = four_words(first);
    let b = four_words(first + 4u);
    let c = four_words(first + 8u);
    let d = four_words(first + 12u);
    return Bits(array<vec4<u32>, 8>(
        quad_bits(a.x, a.y), quad_bits(a.z, a.w), quad_bits(b.x, b.y), quad_bits(b.z, b.w),
        quad_bits(c.x, c.y), quad_bits(c.z, c.w), quad_bits(d.x, d.y), quad_bits(d.z, d.w)));
}
