// Symmetric integers of BITS bits: two's complement fields, rows padded to whole words.
// Scale per tensor or row: f32 (SCALE_BITS 32); per group: f16 (SCALE_BITS 16).
fn codes_at(row: u32, chunk: u32) -> Codes {
    return chunk_codes(row * params.row_words + chunk * BITS);
}

fn scale_bits_at(row: u32, k: u32) -> u32 {
    let index = row * params.groups_per_row + k / params.group;
    if SCALE_BITS == 32u { return scales[index]; }
    return half_bits((scales[index / 2u] >> (16u * (index % 2u))) & 0xffffu);
}
