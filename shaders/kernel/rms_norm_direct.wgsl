// rms_norm_direct: rms_norm for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Partition: one invocation per head. Preconditions: columns and strides are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = params.m_first * params.heads + folded(group, groups) * TILE_M + lane;
    let last = params.m * params.heads - 1u;
    let row = min(at, last) / params.heads;
    let quads = params.cols / 4u;
    let column = (min(at, last) - row * params.heads) * quads;
    let x0 = row * (params.x_stride / 4u) + column - params.x_base;
    let y0 = row * (params.y_stride / 4u) + column;
    var squares = vec4<f32>();
    for (var i = 0u; i < quads; i++) { squares += x[x0 + i] * x[x0 + i]; }
    let mean = ((squares.x + squares.y) + (squares.z + squares.w)) / f32(params.cols);
    let factor = 1.0 / sqrt(mean + bitcast<f32>(params.eps));
    let stored = at <= last;
    for (var first = 0u; first < quads; first += 8u) {
        // A load per invocation serves eight quads.
        let w = weight[min(first + lane, quads - 1u)];
        for (var i = 0u; i < 8u && first + i < quads; i++) {
            let value = x[x0 + first + i] * factor * subgroupShuffle(w, i);
            if stored { y[y0 + first + i] = value; }
        }
    }
}
