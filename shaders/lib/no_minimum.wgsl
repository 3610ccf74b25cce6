// Weights are products.
fn run_minimum(r: Run, record: u32) -> f32 { return 0.0; }
