// BASE levels, DIGITS of them in a field of BITS bits, the first digit the least significant; digit = code + (BASE - 1) / 2.
// A chunk may begin and end within a field.
fn digits_from(first_bit: u32) -> u32 {
    let at = first_bit / 32u;
    let shift = first_bit % 32u;
    // A shift by 32 is undefined: the second part is shifted in two steps.
    let joined = (word(at) >> shift) | ((word(at + 1u) << (31u - shift)) << 1u);
    return joined & (0xffffffffu >> (32u - BITS));
}

fn codes_at(row: u32, chunk: u32) -> Codes {
    let first = row * params.row_words * 32u;
    let k = chunk * CHUNK;
    var field = k / DIGITS;
    var digit = k % DIGITS;
    var v = digits_from(first + field * BITS);
    for (var i = 0u; i < digit; i++) { v /= BASE; }
    var c: Codes;
    for (var i = 0u; i < 8u; i++) {
        for (var e = 0u; e < 4u; e++) {
            if digit == DIGITS {
                digit = 0u;
                field += 1u;
                v = digits_from(first + field * BITS);
            }
            c.q[i][e] = i32(v % BASE) - i32(BASE / 2u);
            v /= BASE;
            digit += 1u;
        }
    }
    return c;
}
