// y = the i32 accumulator itself, as bits, for bit-exact verification; only integer kernels end in it.
fn finish(m: u32, n: u32, acc: f32) { y[m * params.y_stride + params.y_offset + n] = acc; }
fn finish_i32(m: u32, n: u32, sum: i32, scale: f32) {
    y[m * params.y_stride + params.y_offset + n] = bitcast<f32>(sum);
}
