// y = the i32 accumulator itself, as bits, for bit-exact verification; only integer kernels end in it.
fn finish(m: u32, n: u32, acc: Sum) { y_put(sum_at(m, n), acc); }
fn finish_i32(m: u32, n: u32, sum: Count, scale: Sum) { y_put(sum_at(m, n), bitcast<Sum>(sum)); }
