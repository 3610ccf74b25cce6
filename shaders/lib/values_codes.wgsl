// Weights of a chunk before their scale: codes.
fn values_at(row: u32, chunk: u32) -> Weights { return float_codes_at(row, chunk); }
fn factors_of(word: u32, index: u32, b: Biases) -> vec2<f32> { return vec2<f32>(bitcast<f32>(scale_bits_of(word, index, b)), 1.0); }
fn factors_at(row: u32, k: u32) -> vec2<f32> { return vec2<f32>(scale_at(row, k), 1.0); }
