// A sum with its bias; params.y_offset is the first column of this part of the matrix.
fn biased(n: u32, acc: f32) -> f32 { return acc + bias[params.y_offset + n]; }
