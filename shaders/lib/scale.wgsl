// Scale records: HEAD words of table come first, then (SCALE_E4M3) the scale of the matrix, then the records.
// GROUPS: a group is a run of a row (0), a tile of rows and columns (1), a run of the flattened matrix (2).
const FIRST_SCALE: u32 = HEAD + select(0u, 1u, SCALE == SCALE_E4M3);
// Records in a word.
const PER_WORD: u32 = select(select(1u, 2u, SCALE == SCALE_F16), 4u, SCALE == SCALE_EXPONENT || SCALE == SCALE_E4M3);

fn scale_index(row: u32, k: u32) -> u32 {
    if GROUPS == 2u { return (row * params.cols + k) / params.group; }
    if GROUPS == 1u { return (row / params.group_rows) * params.groups_per_row + k / params.group; }
    return row * params.groups_per_row + k / params.group;
}

// The word that holds record `index`.
fn record_word(index: u32) -> u32 { return scale_word(FIRST_SCALE + index / PER_WORD); }

fn byte_of(word: u32, index: u32) -> u32 { return (word >> (8u * (index % 4u))) & 0xffu; }

// Exponent of the group of record `index`, which `word` holds; 128 and above say that the group is not a number.
fn exponent_of(word: u32, index: u32, offset: u32) -> i32 { return i32(byte_of(word, index)) - i32(offset); }

fn exponent_at(row: u32, k: u32) -> i32 {
    let index = scale_index(row, k);
    return exponent_of(record_word(index), index, params.offset);
}

// 2^exponent as binary32 bits, by shifts: exact in the subnormal range too.
fn power_bits(exponent: i32) -> u32 {
    if exponent >= -126 { return u32(min(exponent + 127, 255)) << 23u; }
    return select(0u, (1u << 22u) >> u32(-127 - exponent), exponent >= -149);
}

// E4M3 without a sign, exact in f32.
fn e4m3(byte: u32) -> f32 {
    let exponent = (byte >> 3u) & 15u;
    let mantissa = byte & 7u;
    if exponent == 0u { return f32(mantissa) * 0.001953125; }
    return bitcast<f32>(((exponent + 120u) << 23u) | (mantissa << 20u));
}

// What exponents are stored too large by, and the fraction bits of codes.
struct Biases { offset: u32, fraction: u32 }
fn biases() -> Biases { return Biases(params.offset, params.fraction); }

// The scale that record `index` says, which `word` holds.
fn scale_bits_of(word: u32, index: u32, b: Biases) -> u32 {
    if SCALE == SCALE_FIXED { return params.fixed; }
    if SCALE == SCALE_F32 { return word; }
    if SCALE == SCALE_F16 { return half_bits((word >> (16u * (index % 2u))) & 0xffffu); }
    if SCALE == SCALE_F16_ZERO { return half_bits(word & 0xffffu); }
    if SCALE == SCALE_E4M3 { return bitcast<u32>(bitcast<f32>(scale_word(HEAD)) * e4m3(byte_of(word, index))); }
    let exponent = exponent_of(word, index, b.offset);
    if exponent >= 128 { return 0x7fc00000u; }
    return power_bits(exponent - i32(b.fraction));
}

fn scale_bits_at(row: u32, k: u32) -> u32 {
    if SCALE == SCALE_FIXED { return params.fixed; }
    let index = scale_index(row, k);
    return scale_bits_of(record_word(index), index, biases());
}

fn scale_at(row: u32, k: u32) -> f32 { return bitcast<f32>(scale_bits_at(row, k)); }
