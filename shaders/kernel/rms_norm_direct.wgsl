// rms_norm_direct: rms_norm for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Partition: one invocation per head. Preconditions: columns and strides are multiples of 8.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * TILE_M + lane;
    let last = params.m * params.heads - 1u;
    let row = min(at, last) / params.heads;
    let pairs = params.cols / 8u;
    let column = (min(at, last) - row * params.heads) * pairs;
    let x0 = row * (params.x_stride / 8u) + column;
    let y0 = row * (params.y_stride / 8u) + column;
    var squares = vec4<f32>();
    for (var i = 0u; i < pairs; i++) {
        let v = x_pair(x0 + i);
        squares += v.low * v.low + v.high * v.high;
    }
    let mean = ((squares.x + squares.y) + (squares.z + squares.w)) / f32(params.cols);
    let factor = 1.0 / sqrt(mean + bitcast<f32>(params.eps));
    let stored = at <= last;
    var largest = vec4<f32>();
    for (var first = 0u; first < pairs; first += 4u) {
        // A load per invocation serves eight quads.
        let w = weight[min(2u * first + lane, 2u * pairs - 1u)];
        for (var i = 0u; i < 4u && first + i < pairs; i++) {
            let v = x_pair(x0 + first + i);
            let low = v.low * factor * subgroupShuffle(w, 2u * i);
            let high = v.high * factor * subgroupShuffle(w, 2u * i + 1u);
            largest = max(largest, max(abs(low), abs(high)));
            if stored { y_put(y0 + first + i, Pair(low, high)); }
        }
    }
    if stored { maxima[at] = max(max(largest.x, largest.y), max(largest.z, largest.w)); }
}
