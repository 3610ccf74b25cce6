// quantize_direct: quantize for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Codes are fields of X_BITS bits, 8, 4 or 2, rows of them padded with zeros to whole vec4.
// Partition: one invocation per row; what rows of one sequence share, the invocations find together.
// Preconditions: columns and strides are multiples of 4; columns of x from cols to the end of its chunk are zero.
const_assert WORKGROUP == 8u && (X_BITS == 8u || X_BITS == 4u || X_BITS == 2u);
const NONE: u32 = 0xffffffffu;
const QUADS: u32 = 8u / X_BITS;  // in a word of codes

struct Divisor { scale: f32, limit: f32, x0: u32, quads: u32 }  // of a row of x, which begins at vec4 x0 and has `quads`

// The codes of a quad in the lowest bits; past the end of the row they are 0.
fn quad_codes(d: Divisor, quad: u32) -> u32 {
    let v = x[d.x0 + min(quad, d.quads - 1u)];
    let codes = vec4<i32>(clamp(round(v / d.scale), vec4<f32>(-d.limit), vec4<f32>(d.limit)));
    if X_BITS == 8u { return pack4xI8(codes); }
    let fields = (bitcast<vec4<u32>>(codes) & vec4<u32>((1u << X_BITS) - 1u))
        << vec4<u32>(0u, X_BITS, 2u * X_BITS, 3u * X_BITS);
    return select(0u, fields.x | fields.y | fields.z | fields.w, quad < d.quads);
}

fn word_codes(d: Divisor, word: u32) -> u32 {
    let first = word * QUADS;
    var codes = quad_codes(d, first);
    if X_BITS == 4u { codes |= quad_codes(d, first + 1u) << 16u; }
    if X_BITS == 2u {
        codes |= (quad_codes(d, first + 1u) << 8u) | (quad_codes(d, first + 2u) << 16u) | (quad_codes(d, first + 3u) << 24u);
    }
    return codes;
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
    let d = Divisor(scale, limit, x0, (params.cols + CHUNK - 1u) / CHUNK * 8u);
    for (var i = 0u; i < params.y_stride / 4u; i++) {
        y[y0 + i] = vec4<u32>(word_codes(d, 4u * i), word_codes(d, 4u * i + 1u),
                              word_codes(d, 4u * i + 2u), word_codes(d, 4u * i + 3u));
    }
    x_scale[row] = scale;
}
