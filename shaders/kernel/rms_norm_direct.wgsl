// rms_norm_direct: rms_norm for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Partition: one invocation per row. Preconditions: columns and strides are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups) * TILE_M + lane;
    let x0 = min(row, params.m - 1u) * (params.x_stride / 4u);
    let y0 = row * (params.y_stride / 4u);
    let quads = params.cols / 4u;
    var squares = vec4<f32>();
    for (var i = 0u; i < quads; i++) { squares += x[x0 + i] * x[x0 + i]; }
    let mean = ((squares.x + squares.y) + (squares.z + squares.w)) / f32(params.cols);
    let factor = 1.0 / sqrt(mean + bitcast<f32>(params.eps));
    let stored = row < params.m;
    for (var first = 0u; first < quads; first += 8u) {
        // A load per invocation serves eight quads.
        let w = weight[min(first + lane, quads - 1u)];
        for (var i = 0u; i < 8u && first + i < quads; i++) {
            let value = x[x0 + first + i] * factor * subgroupShuffle(w, i);
            if stored { y[y0 + first + i] = value; }
        }
    }
}
