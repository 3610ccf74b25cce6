// gemm_i8_direct: gemm_i8 for software drivers, which expand dot4I8Packed into shifts: codes travel as f32.
// The products of EXACT chunks stay within 2^24, so their f32 sum is the exact integer; it is then added in i32 over all
// of K. Where scales change within a row it is scaled chunk by chunk (lib/x_scale.wgsl).
// Partition: lib/direct.wgsl.
const_assert !TALL;
const EXACT: u32 = 32u;

fn four_quads(w: vec4<u32>) -> array<vec4<f32>, 4> {
    return array<vec4<f32>, 4>(vec4<f32>(unpack4xI8(w.x)), vec4<f32>(unpack4xI8(w.y)),
                               vec4<f32>(unpack4xI8(w.z)), vec4<f32>(unpack4xI8(w.w)));
}

// A chunk of a row of x, which begins at vec4 `at`.
fn x_chunk(at: u32) -> Weights {
    let low = four_quads(x[at]);
    let high = four_quads(x[at + 1u]);
    return Weights(array<vec4<f32>, 8>(low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]));
}

fn code_weights(row: u32, chunk: u32) -> Weights {
    let c = codes_at(row, chunk);
    return Weights(array<vec4<f32>, 8>(
        vec4<f32>(c.q[0]), vec4<f32>(c.q[1]), vec4<f32>(c.q[2]), vec4<f32>(c.q[3]),
        vec4<f32>(c.q[4]), vec4<f32>(c.q[5]), vec4<f32>(c.q[6]), vec4<f32>(c.q[7])));
}

fn products(sums: Sums, n: vec4<u32>, chunk: u32, x0: u32) -> Sums {
    let w = Four(code_weights(n.x, chunk), code_weights(n.y, chunk), code_weights(n.z, chunk), code_weights(n.w, chunk));
    return advance(sums, w, x_chunk(x0 + 2u * chunk));
}

struct Totals { i: array<vec4<i32>, 8> }

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
    let own = min(m0 + lane, params.m - 1u);
    let x0 = own * (params.x_stride / 4u) - params.x_base;
    if m0 >= params.m { return; }
    let last = params.rows - 1u;
    let n = min(vec4<u32>(n0, n0 + WORKGROUP, n0 + 2u * WORKGROUP, n0 + 3u * WORKGROUP), vec4<u32>(last));
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var s: Sums;
    var t: Totals;
    var ends = vec4<f32>(1.0);
    if WHOLE_SUM {
        for (var first = 0u; first < chunks; first += EXACT) {
            var part: Sums;
            for (var chunk = first; chunk < min(first + EXACT, chunks); chunk++) { part = products(part, n, chunk, x0); }
            t.i[0] += vec4<i32>(part.a[0]);
            t.i[1] += vec4<i32>(part.a[1]);
            t.i[2] += vec4<i32>(part.a[2]);
            t.i[3] += vec4<i32>(part.a[3]);
            t.i[4] += vec4<i32>(part.a[4]);
            t.i[5] += vec4<i32>(part.a[5]);
            t.i[6] += vec4<i32>(part.a[6]);
            t.i[7] += vec4<i32>(part.a[7]);
        }
        ends = vec4<f32>(scale_at(n.x, 0u), scale_at(n.y, 0u), scale_at(n.z, 0u), scale_at(n.w, 0u));
    } else {
        for (var chunk = 0u; chunk < chunks; chunk++) {
            let part = products(Sums(), n, chunk, x0);
            let k = chunk * CHUNK;
            let scale = vec4<f32>(scale_at(n.x, k), scale_at(n.y, k), scale_at(n.z, k), scale_at(n.w, k));
            let of_x = chunk_scale(own, chunk);
            s.a[0] += part.a[0] * scale * subgroupBroadcast(of_x, 0u);
            s.a[1] += part.a[1] * scale * subgroupBroadcast(of_x, 1u);
            s.a[2] += part.a[2] * scale * subgroupBroadcast(of_x, 2u);
            s.a[3] += part.a[3] * scale * subgroupBroadcast(of_x, 3u);
            s.a[4] += part.a[4] * scale * subgroupBroadcast(of_x, 4u);
            s.a[5] += part.a[5] * scale * subgroupBroadcast(of_x, 5u);
            s.a[6] += part.a[6] * scale * subgroupBroadcast(of_x, 6u);
            s.a[7] += part.a[7] * scale * subgroupBroadcast(of_x, 7u);
        }
    }
    var of_row = 1.0;
    if X_PER_CHUNK == 0u { of_row = x_scale[own]; }
    finish_row(m0, n0, t.i[0], s.a[0], subgroupBroadcast(of_row, 0u) * ends);
    finish_row(m0 + 1u, n0, t.i[1], s.a[1], subgroupBroadcast(of_row, 1u) * ends);
    finish_row(m0 + 2u, n0, t.i[2], s.a[2], subgroupBroadcast(of_row, 2u) * ends);
    finish_row(m0 + 3u, n0, t.i[3], s.a[3], subgroupBroadcast(of_row, 3u) * ends);
    finish_row(m0 + 4u, n0, t.i[4], s.a[4], subgroupBroadcast(of_row, 4u) * ends);
    finish_row(m0 + 5u, n0, t.i[5], s.a[5], subgroupBroadcast(of_row, 5u) * ends);
    finish_row(m0 + 6u, n0, t.i[6], s.a[6], subgroupBroadcast(of_row, 6u) * ends);
    finish_row(m0 + 7u, n0, t.i[7], s.a[7], subgroupBroadcast(of_row, 7u) * ends);
}
