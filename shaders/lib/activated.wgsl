// The function of a sum of one number.
fn activated(sum: f32) -> f32 { return activation(sum); }
