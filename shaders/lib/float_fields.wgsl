// Codes of a chunk as floats, made of the fields of its words where they are.
fn float_field(f: Fields, index: u32, zero: f32) -> f32 {
    let bit = index * BITS;
    let word = f.w[bit / 32u];
    let shift = bit % 32u;
    if CODE == CODE_SIGN {  // its bit becomes the sign of one
        return bitcast<f32>(((word << (31u - shift)) & 0x80000000u) ^ 0xbf800000u);
    }
    // Two's complement with its sign turned is the code plus half the range.
    let turned = select(0u, 1u << (BITS - 1u), CODE == CODE_SIGNED);
    let over = select(zero, f32(turned), CODE == CODE_SIGNED);
    if shift + BITS > 32u {  // straddles two words
        let joined = (word >> shift) | (f.w[min(bit / 32u + 1u, BITS - 1u)] << (32u - shift));
        return in_place(joined, 0u, BITS, turned, over);
    }
    if shift >= 16u { return in_place(word >> 16u, shift - 16u, BITS, turned, over); }
    return in_place(word, shift, BITS, turned, over);
}

// A chunk as it is packed.
struct Chunk { f: Fields, zero: f32 }

fn chunk_at(row: u32, chunk: u32, zero: f32) -> Chunk {
    return Chunk(load_fields(row * params.row_words + chunk * BITS), zero);
}

fn float_quad(c: Chunk, i: u32) -> vec4<f32> {
    return vec4<f32>(float_field(c.f, 4u * i, c.zero), float_field(c.f, 4u * i + 1u, c.zero),
                     float_field(c.f, 4u * i + 2u, c.zero), float_field(c.f, 4u * i + 3u, c.zero));
}
