// Table, scales and exceptions bound as array<vec4<u32>>: one load brings the records of several groups (lib/run_quads.wgsl).
fn scale_word(i: u32) -> u32 { return scales[i / 4u][i % 4u]; }
