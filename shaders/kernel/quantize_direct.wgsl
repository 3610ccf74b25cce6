// quantize_direct: quantize for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Partition: one invocation per row; what rows of one sequence share, the invocations find together.
// Preconditions: columns and strides are multiples of 4, of which 32 in codes; columns from cols on are zero.
const_assert WORKGROUP == 8u;
const NONE: u32 = 0xffffffffu;

fn codes_of(quad: vec4<f32>, scale: f32, limit: f32) -> u32 {
    return pack4xI8(vec4<i32>(clamp(round(quad / scale), vec4<f32>(-limit), vec4<f32>(limit))));
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups) * TILE_M + lane;
    let own = min(row, params.m - 1u);
    let limit = f32(params.q_max);
    let x0 = own * (params.x_stride / 4u);
    let y0 = own * (params.y_stride / 4u);
    var largest = 0.0;
    if PER_TENSOR == 0u {
        largest = maxima[own];
    } else {
        let end = tokens[own].end;
        var pending = tokens[own].begin;
        for (var turn = 0u; turn < 8u; turn++) {
            let begin = subgroupMin(pending);
            if begin == NONE { break; }
            let mine = pending == begin;
            let last = subgroupMax(select(0u, end, mine));
            var most = 0.0;
            for (var r = begin + lane; r < last; r += 8u) { most = max(most, maxima[r]); }
            largest = select(largest, subgroupMax(most), mine);
            pending = select(pending, NONE, mine);
        }
    }
    if row >= params.m { return; }
    // The smallest normal number keeps a flushed scale from dividing by zero.
    let scale = select(1.0, max(largest / limit, 1.17549435e-38), largest > 0.0);
    for (var i = 0u; i < params.y_stride / 4u; i++) {
        let at = x0 + 4u * i;
        y[y0 + i] = vec4<u32>(codes_of(x[at], scale, limit), codes_of(x[at + 1u], scale, limit),
                              codes_of(x[at + 2u], scale, limit), codes_of(x[at + 3u], scale, limit));
    }
    x_scale[row] = scale;
}
