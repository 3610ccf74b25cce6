// Step functions of x, one per scale. Behind the scales, `table` holds where the steps of each of them begin
// (params.scales + 1 words), then for all params.steps steps their first x and then their values.
// An x is searched by the order of its value, in integers: no device flushes or rounds it.
fn step_value(scale: u32, bits: u32) -> u32 {
    let x_order = select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
    let begins = 2u * params.scales + scale;
    let first = 3u * params.scales + 1u;
    var low = table[begins];
    var high = table[begins + 1u];
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if table[first + middle] <= x_order { low = middle; } else { high = middle; }
    }
    return table[first + params.steps + low];
}
