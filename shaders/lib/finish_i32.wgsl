// Ends an i32 sum: to float, times the product of both scales, then the epilogue.
fn finish_i32(m: u32, n: u32, sum: i32, scale: f32) { finish(m, n, f32(sum) * scale); }
