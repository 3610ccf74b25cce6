// Ends an i32 sum: to float, times the product of both scales, then the epilogue.
fn finish_i32(m: u32, n: u32, sum: Count, scale: Sum) { finish(m, n, Sum(sum) * scale); }
