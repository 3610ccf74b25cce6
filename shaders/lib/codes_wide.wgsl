// Code words bound as array<vec4<u32>>, for rows that are a multiple of four words: one load brings 16 bytes.
// i of four_words is a multiple of 4.
fn word(i: u32) -> u32 { return codes[i / 4u][i % 4u]; }
fn four_words(i: u32) -> vec4<u32> { return codes[i / 4u]; }
