// rms_norm_direct: rms_norm for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Partition: one invocation per head. Preconditions: columns and strides are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * TILE_M + lane;
    let last = params.m * params.heads - 1u;
    let row = min(at, last) / params.heads;
    let quads = params.cols / 4u;
    let column = (min(at, last) - row * params.heads) * quads;
    let x0 = row * (params.x_stride / 4u) + column;
    let y0 = row * (params.y_stride / 4u) + column;
    var squares = vec4<f32>();
    for (var i = 0u; i < quads; i++) {
        let v = x[x0 + i];
        squares += v * v;
    }
    let mean = ((squares.x + squares.y) + (squares.z + squares.w)) / f32(params.cols);
    let factor = 1.0 / sqrt(mean + bitcast<f32>(params.eps));
    let stored = at <= last;
    var largest = vec4<f32>();
    for (var first = 0u; first < quads; first += 8u) {
        // A load per invocation serves eight quads.
        let w = weight[min(first + lane, quads - 1u)];
        for (var i = 0u; i < 8u && first + i < quads; i++) {
            let value = x[x0 + first + i] * factor * subgroupShuffle(w, i);
            largest = max(largest, abs(value));
            if stored { y[y0 + first + i] = value; }
        }
    }
    if stored { maxima[at] = max(max(largest.x, largest.y), max(largest.z, largest.w)); }
}
