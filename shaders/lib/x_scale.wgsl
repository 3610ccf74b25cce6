// Scales of x in integer products: x_scale is [m], or [m, chunks] (X_PER_CHUNK 1). Where x and W have one scale per row,
// one i32 sum runs over all of K (WHOLE_SUM); else the sum of every chunk is scaled by what its scale differs in.
const WHOLE_SUM: bool = ROW_SCALE && X_PER_CHUNK == 0u;

fn chunk_scale(m: u32, chunk: u32) -> f32 {
    if X_PER_CHUNK == 0u { return 1.0; }
    return x_scale[min(m, params.m - 1u) * ((params.cols + CHUNK - 1u) / CHUNK) + chunk];
}
