// The zero point of codes, the upper half of the record of their group.
fn zero_of(record: u32) -> f32 { return f32((record >> 16u) & ((1u << BITS) - 1u)); }
fn zero_at(row: u32, chunk: u32) -> f32 { return zero_of(scale_word(FIRST_SCALE + scale_index(row, chunk * CHUNK))); }
