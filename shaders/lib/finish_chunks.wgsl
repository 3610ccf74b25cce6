// Ends a sum of scaled chunks.
fn finish_chunks(m: u32, n: u32, sum: f32) {
    if X_PER_CHUNK == 1u { finish(m, n, sum); } else { finish(m, n, sum * x_scale[m]); }
}
