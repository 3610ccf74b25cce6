// Table, scales and exceptions bound as array<u32>.
fn scale_word(i: u32) -> u32 { return scales[i]; }
