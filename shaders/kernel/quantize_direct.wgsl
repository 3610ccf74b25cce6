// quantize_direct: quantize for software drivers, where a workgroup and a reduction cost as much as a hundred elements.
// Codes are fields of X_BITS bits, 8, 4 or 2, rows of them padded with zeros to whole vec4.
// Partition: one invocation per row; what rows of one sequence share, the invocations find together.
// Preconditions: columns and strides of x are multiples of 8, that of y of 4; columns of x from cols to the end of its
// chunk are zero.
const_assert WORKGROUP == 8u && (X_BITS == 8u || X_BITS == 4u || X_BITS == 2u);
const NONE: u32 = 0xffffffffu;

// Of a row of x, which begins at pair x0 and has `pairs`.
struct Divisor { scale: f32, limit: f32, x0: u32, pairs: u32 }

// The codes of a quad in the lowest bits.
fn quad_codes(d: Divisor, v: vec4<f32>) -> u32 {
    let codes = vec4<i32>(clamp(round(v / d.scale), vec4<f32>(-d.limit), vec4<f32>(d.limit)));
    let fields = (bitcast<vec4<u32>>(codes) & vec4<u32>((1u << X_BITS) - 1u))
        << vec4<u32>(0u, X_BITS, 2u * X_BITS, 3u * X_BITS);
    return fields.x | fields.y | fields.z | fields.w;
}

// Those of two quads, each in the lowest bits; past the end of the row they are 0.
fn pair_codes(d: Divisor, pair: u32) -> vec2<u32> {
    let v = x_pair(d.x0 + min(pair, d.pairs - 1u));
    return select(vec2<u32>(), vec2<u32>(quad_codes(d, v.low), quad_codes(d, v.high)), pair < d.pairs);
}

// Vector i of the words of codes of the row.
fn row_codes(d: Divisor, i: u32) -> vec4<u32> {
    if X_BITS == 8u { return vec4<u32>(pair_codes(d, 2u * i), pair_codes(d, 2u * i + 1u)); }
    if X_BITS == 4u {
        let a = pair_codes(d, 4u * i);
        let b = pair_codes(d, 4u * i + 1u);
        let c = pair_codes(d, 4u * i + 2u);
        let e = pair_codes(d, 4u * i + 3u);
        return vec4<u32>(a.x, b.x, c.x, e.x) | (vec4<u32>(a.y, b.y, c.y, e.y) << vec4<u32>(16u));
    }
    return vec4<u32>(sixteen_codes(d, 8u * i), sixteen_codes(d, 8u * i + 2u),
                     sixteen_codes(d, 8u * i + 4u), sixteen_codes(d, 8u * i + 6u));
}

// Of two bits, of the pair and the next one.
fn sixteen_codes(d: Divisor, pair: u32) -> u32 {
    let a = pair_codes(d, pair);
    let b = pair_codes(d, pair + 1u);
    return a.x | (a.y << 8u) | (b.x << 16u) | (b.y << 24u);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups) * TILE_M + lane;
    let own = min(row, params.m - 1u);
    let limit = f32(params.q_max);
    let x0 = own * (params.x_stride / 8u);
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
    let scale = symmetric_scale(largest, limit);
    let d = Divisor(scale, limit, x0, (params.cols + CHUNK - 1u) / CHUNK * 4u);
    for (var i = 0u; i < params.y_stride / 4u; i++) { y_put(y0 + i, row_codes(d, i)); }
    x_scale[row] = scale;
}
