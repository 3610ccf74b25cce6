// Code words bound as array<u32>: rows begin anywhere.
fn word(i: u32) -> u32 { return codes[i]; }
fn four_words(i: u32) -> vec4<u32> { return vec4<u32>(codes[i], codes[i + 1u], codes[i + 2u], codes[i + 3u]); }
