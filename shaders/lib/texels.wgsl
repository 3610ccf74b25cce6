// Where vec4 i lies in a texture of TEXELS texels to a line.
fn texel(i: u32) -> vec2<u32> { return vec2<u32>(i % TEXELS, i / TEXELS); }
