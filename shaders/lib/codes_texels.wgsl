// Code words as texels of four (lib/texels.wgsl), for rows that are a multiple of four words: a software
// driver reads a texel several times as fast as storage, and one of a storage texture faster than one of a sampled texture,
// whose level of detail it looks up for every invocation. i of four_words is a multiple of 4.
fn four_words(i: u32) -> vec4<u32> { return textureLoad(codes, texel(i / 4u)); }
fn word(i: u32) -> u32 { return four_words(i)[i % 4u]; }
