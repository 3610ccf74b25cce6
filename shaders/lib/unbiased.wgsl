// A sum without a bias.
fn biased(n: u32, acc: f32) -> f32 { return acc; }
