// Blocks of activations that share a power-of-two scale. `maxima` [m, blocks] holds the largest magnitude of every block
// as bits, `least` [m] the smallest one above 0 of the sequence that begins at a row. `table` begins with the magnitudes
// from which on a block has scale 0, 1, 2, …, params.scales of them; then follows a word for each.
fn block_scale(row: u32, block: u32) -> u32 {
    if params.scales == 1u { return 0u; }
    var largest = maxima[row * params.blocks + block];
    if largest == 0u && params.zero_shares == 1u {
        // A block of zeros in a format whose scale does not vanish with the block; 1 where all blocks are zero.
        largest = least[tokens[row].begin];
        if largest == 0xffffffffu { largest = 0x3f800000u; }
    }
    var low = 0u;
    var high = params.scales;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if table[middle] <= largest { low = middle; } else { high = middle; }
    }
    return low;
}
