// MXINT: BITS-wide two's complement elements, one E8M0 byte per group of elements;
// value = code * 2^(byte - 127 - FRACTION). FLAT: one int8 stream over the whole matrix
// (groups may straddle rows), otherwise rows padded to whole words.
fn codes_at(row: u32, chunk: u32) -> Codes {
    if !FLAT { return chunk_codes(row * params.row_words + chunk * BITS); }
    let byte = row * params.cols + chunk * CHUNK;
    let shift = 8u * (byte % 4u);
    var words: array<u32, 9>;
    for (var i = 0u; i < 9u; i++) { words[i] = word(byte / 4u + i); }
    var c: Codes;
    for (var i = 0u; i < 8u; i++) {
        // A shift by 32 is undefined: the second half is shifted in two steps.
        let q = unpack4xI8((words[i] >> shift) | ((words[i + 1u] << (31u - shift)) << 1u));
        c.q[i] = select(q, vec4<i32>(), q == vec4<i32>(-128));  // no encoder writes -128; its source decodes 0
    }
    return c;
}

fn scale_bits_at(row: u32, k: u32) -> u32 {
    let index = select(row * params.groups_per_row + k / params.group, (row * params.cols + k) / params.group, FLAT);
    let byte = (scales[index / 4u] >> (8u * (index % 4u))) & 0xffu;
    if byte == 255u { return 0x7fc00000u; }  // E8M0 has a NaN and no infinity
    let exponent = i32(byte) - i32(FRACTION);  // biased by 127
    if exponent > 0 { return u32(exponent) << 23u; }
    return (1u << 22u) >> u32(-exponent);  // subnormal power of two
}
