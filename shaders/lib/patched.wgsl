// Exceptions: weights that are not what their code says. From word params.patch_at of `scales` on lie params.patches
// records of four words, ordered by row and column: row, column, value, value minus what the code says.
fn first_patch(row: u32) -> u32 {
    var low = 0u;
    var high = params.patches;
    while low < high {
        let middle = (low + high) / 2u;
        if scale_word(params.patch_at + 4u * middle) < row { low = middle + 1u; } else { high = middle; }
    }
    return low;
}

fn patched_bits(row: u32, k: u32, bits: u32) -> u32 {
    for (var i = first_patch(row); i < params.patches; i++) {
        let at = params.patch_at + 4u * i;
        if scale_word(at) != row || scale_word(at + 1u) > k { break; }
        if scale_word(at + 1u) == k { return scale_word(at + 2u); }
    }
    return bits;
}
