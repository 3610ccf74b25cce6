// Integer codes of BITS bits, rows padded to whole words: two's complement (CODE_SIGNED), one bit for -1 and +1
// (CODE_SIGN), or fields with a zero point (CODE_UNSIGNED).
fn codes_at(row: u32, chunk: u32) -> Codes {
    var c = chunk_codes(row * params.row_words + chunk * BITS);
    if CODE == CODE_SIGN {
        for (var i = 0u; i < 8u; i++) { c.q[i] = 2 * c.q[i] - 1; }
    }
    if CODE == CODE_UNSIGNED {
        let zero = i32(zero_at(row, chunk));
        for (var i = 0u; i < 8u; i++) { c.q[i] -= zero; }
    }
    return c;
}
