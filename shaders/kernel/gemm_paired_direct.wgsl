// gemm_paired_direct: gemm_i8_direct for codes so small that two rows of x share a float, a + 4096 b: one product and one
// sum serve both. With |x| <= 7 and |W| <= 9 a chunk sums to at most 2016 per row, so neither row reaches into
// the other one and the whole stays below 2^24: exact. Chunks are taken apart in integers.
// Partition: 16 rows of x, of which invocation i holds rows i and i + 8, times 4 rows of W; else as lib/direct.wgsl.
// Preconditions: as there; x holds four-bit fields, two's complement, rows padded with zeros to whole chunks.
const_assert TALL && X_PER_CHUNK == 0u;
const BASE_BITS: vec4<u32> = vec4<u32>(12u);

struct Totals { low: array<vec4<i32>, 8>, high: array<vec4<i32>, 8> }  // rows 0 to 7 and 8 to 15 of the tile

// Fields 0 to 3 of `low`, and of `high` times 4096.
fn pairs(low: u32, high: u32) -> vec4<f32> {
    let up = vec4<u32>(28u, 24u, 20u, 16u);
    let a = bitcast<vec4<i32>>(vec4<u32>(low) << up) >> vec4<u32>(28u);
    let b = (bitcast<vec4<i32>>(vec4<u32>(high) << up) >> vec4<u32>(16u)) & vec4<i32>(-4096);
    return vec4<f32>(a + b);
}

// A chunk of two rows of x.
fn x_chunk(low: vec4<u32>, high: vec4<u32>) -> Weights {
    return Weights(array<vec4<f32>, 8>(
        pairs(low.x, high.x), pairs(low.x >> 16u, high.x >> 16u), pairs(low.y, high.y), pairs(low.y >> 16u, high.y >> 16u),
        pairs(low.z, high.z), pairs(low.z >> 16u, high.z >> 16u), pairs(low.w, high.w), pairs(low.w >> 16u, high.w >> 16u)));
}

fn code_weights(row: u32, chunk: u32) -> Weights {
    let c = codes_at(row, chunk);
    return Weights(array<vec4<f32>, 8>(
        vec4<f32>(c.q[0]), vec4<f32>(c.q[1]), vec4<f32>(c.q[2]), vec4<f32>(c.q[3]),
        vec4<f32>(c.q[4]), vec4<f32>(c.q[5]), vec4<f32>(c.q[6]), vec4<f32>(c.q[7])));
}

// What a chunk sums to for the upper of two rows; the lower one has the rest.
fn upper(sum: vec4<i32>) -> vec4<i32> { return (sum + vec4<i32>(2048)) >> BASE_BITS; }

// `ends` is all that the sum of row m has to be multiplied by.
fn finish_row(m: u32, n0: u32, total: vec4<i32>, sums: vec4<f32>, ends: vec4<f32>) {
    if m >= params.m { return; }
    for (var j = 0u; j < THREAD_N; j++) {
        let n = n0 + j * WORKGROUP;
        if n < params.rows {
            if WHOLE_SUM { finish_i32(m, n, total[j], ends[j]); } else { finish(m, n, sums[j] * ends[j]); }
        }
    }
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows - params.n_first + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = params.m_first + (tile / tiles_n) * TILE_M;
    let n0 = params.n_first + (tile % tiles_n) * TILE_N + lane;
    // Rows past the end repeat the last one; their sums are never stored.
    let own = min(vec2<u32>(m0 + lane, m0 + lane + 8u), vec2<u32>(params.m - 1u));
    let x0 = own * (params.x_stride / 4u) - vec2<u32>(params.x_base);
    if m0 >= params.m { return; }
    let n = min(vec4<u32>(n0, n0 + WORKGROUP, n0 + 2u * WORKGROUP, n0 + 3u * WORKGROUP), vec4<u32>(params.rows - 1u));
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var low: Sums;   // scaled sums, where scales change within a row
    var high: Sums;
    var t: Totals;
    var ends = vec4<f32>(1.0);
    for (var chunk = 0u; chunk < chunks; chunk++) {
        let w = Four(code_weights(n.x, chunk), code_weights(n.y, chunk), code_weights(n.z, chunk), code_weights(n.w, chunk));
        let part = advance(Sums(), w, x_chunk(x[x0.x + chunk], x[x0.y + chunk]));
        let k = chunk * CHUNK;
        var scale = vec4<f32>(1.0);
        if !WHOLE_SUM { scale = vec4<f32>(scale_at(n.x, k), scale_at(n.y, k), scale_at(n.z, k), scale_at(n.w, k)); }
        for (var i = 0u; i < 8u; i++) {
            let sum = vec4<i32>(part.a[i]);
            let of_high = upper(sum);
            let of_low = sum - (of_high << BASE_BITS);
            if WHOLE_SUM {
                t.low[i] += of_low;
                t.high[i] += of_high;
            } else {
                low.a[i] += vec4<f32>(of_low) * scale;
                high.a[i] += vec4<f32>(of_high) * scale;
            }
        }
    }
    if WHOLE_SUM { ends = vec4<f32>(scale_at(n.x, 0u), scale_at(n.y, 0u), scale_at(n.z, 0u), scale_at(n.w, 0u)); }
    for (var i = 0u; i < 8u; i++) {
        let m = m0 + i;
        finish_row(m, n0, t.low[i], low.a[i], x_scale[min(m, params.m - 1u)] * ends);
        finish_row(m + 8u, n0, t.high[i], high.a[i], x_scale[min(m + 8u, params.m - 1u)] * ends);
    }
}
