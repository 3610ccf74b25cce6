// Codes without a zero point.
fn zero_of(record: u32) -> f32 { return 0.0; }
fn zero_at(row: u32, chunk: u32) -> f32 { return 0.0; }
