// int8 codes in one stream over the whole matrix: rows begin at any byte.
fn codes_at(row: u32, chunk: u32) -> Codes {
    let byte = row * params.cols + chunk * CHUNK;
    let shift = 8u * (byte % 4u);
    var words: array<u32, 9>;
    for (var i = 0u; i < 9u; i++) { words[i] = word(byte / 4u + i); }
    var c: Codes;
    for (var i = 0u; i < 8u; i++) {
        // A shift by 32 is undefined: the second half is shifted in two steps.
        let q = unpack4xI8((words[i] >> shift) | ((words[i + 1u] << (31u - shift)) << 1u));
        c.q[i] = select(q, vec4<i32>(), q == vec4<i32>(-128));  // no encoder writes -128; its source decodes 0
    }
    return c;
}
