// BITS-wide fields of a little-endian bit stream, sign-extended (FIELD_SIGNED) or not; BITS words hold one chunk.
struct Fields { w: array<u32, BITS> }

fn load_fields(first: u32) -> Fields {
    var f: Fields;
    if BITS % 4u == 0u {
        for (var i = 0u; i < BITS; i += 4u) {
            let w = four_words(first + i);
            f.w[i] = w.x;
            f.w[i + 1u] = w.y;
            f.w[i + 2u] = w.z;
            f.w[i + 3u] = w.w;
        }
    } else {
        for (var i = 0u; i < BITS; i++) { f.w[i] = word(first + i); }
    }
    return f;
}

// A field in the upper bits of a word as a number.
fn extended(upper: u32) -> i32 {
    if FIELD_SIGNED { return bitcast<i32>(upper) >> (32u - BITS); }
    return bitcast<i32>(upper >> (32u - BITS));
}

fn field(f: Fields, index: u32) -> i32 {
    let bit = index * BITS;
    let at = bit / 32u;
    let shift = bit % 32u;
    if shift + BITS <= 32u { return extended(f.w[at] << (32u - BITS - shift)); }
    // The field straddles two words: its low part ends one word, its high part begins the next one.
    let joined = (f.w[at] >> shift) | (f.w[min(at + 1u, BITS - 1u)] << (32u - shift));
    return extended(joined << (32u - BITS));
}

fn four_fields(f: Fields, i: u32) -> vec4<i32> {
    return vec4<i32>(field(f, 4u * i), field(f, 4u * i + 1u), field(f, 4u * i + 2u), field(f, 4u * i + 3u));
}

fn chunk_codes(first: u32) -> Codes {
    let f = load_fields(first);
    return Codes(array<vec4<i32>, 8>(four_fields(f, 0u), four_fields(f, 1u), four_fields(f, 2u), four_fields(f, 3u),
                                     four_fields(f, 4u), four_fields(f, 5u), four_fields(f, 6u), four_fields(f, 7u)));
}
