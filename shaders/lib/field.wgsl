// Signed BITS-wide fields of a little-endian bit stream; BITS words hold one chunk.
struct Fields { w: array<u32, BITS> }

fn load_fields(first: u32) -> Fields {
    var f: Fields;
    for (var i = 0u; i < BITS; i++) { f.w[i] = codes[first + i]; }
    return f;
}

fn field(f: Fields, index: u32) -> i32 {
    let bit = index * BITS;
    let word = bit / 32u;
    let shift = bit % 32u;
    if shift + BITS <= 32u {
        return bitcast<i32>(f.w[word] << (32u - BITS - shift)) >> (32u - BITS);
    }
    // The field straddles two words: its low part ends word, its high part begins the next one.
    let joined = (f.w[word] >> shift) | (f.w[min(word + 1u, BITS - 1u)] << (32u - shift));
    return bitcast<i32>(joined << (32u - BITS)) >> (32u - BITS);
}

fn quad(f: Fields, i: u32) -> vec4<i32> {
    return vec4<i32>(field(f, 4u * i), field(f, 4u * i + 1u), field(f, 4u * i + 2u), field(f, 4u * i + 3u));
}

fn chunk_codes(first: u32) -> Codes {
    let f = load_fields(first);
    return Codes(array<vec4<i32>, 8>(quad(f, 0u), quad(f, 1u), quad(f, 2u), quad(f, 3u),
                                     quad(f, 4u), quad(f, 5u), quad(f, 6u), quad(f, 7u)));
}
