// Adds what the exceptions of row n contribute to the product with row m of x.
fn patched(m: u32, n: u32, sum: f32) -> f32 {
    var total = sum;
    for (var i = first_patch(n); i < params.patches; i++) {
        let at = params.patch_at + 4u * i;
        if scale_word(at) != n { break; }
        let k = scale_word(at + 1u);
        total += x[(m * params.x_stride + k) / 4u][k % 4u] * bitcast<f32>(scale_word(at + 3u));
    }
    return total;
}
