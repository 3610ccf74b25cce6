// gemm_i8_direct: gemm_i8 for software drivers, which expand dot4I8Packed into shifts: codes travel as f32.
// The products of one chunk stay below 2^24, so its f32 sum is the exact integer; it is then added in i32 over all of
// K, or scaled chunk by chunk (lib/x_scale.wgsl).
// Partition: lib/direct.wgsl.
fn quad(m: u32, at: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(x[min(m, params.m - 1u) * params.x_stride + at]));
}

fn code_weights(row: u32, chunk: u32) -> Weights {
    let c = codes_at(row, chunk);
    return Weights(array<vec4<f32>, 8>(
        vec4<f32>(c.q[0]), vec4<f32>(c.q[1]), vec4<f32>(c.q[2]), vec4<f32>(c.q[3]),
        vec4<f32>(c.q[4]), vec4<f32>(c.q[5]), vec4<f32>(c.q[6]), vec4<f32>(c.q[7])));
}

struct Totals { i: array<vec4<i32>, 8> }

fn finish_row(m: u32, n0: u32, total: vec4<i32>, sums: vec4<f32>) {
    if m >= params.m { return; }
    for (var j = 0u; j < THREAD_N; j++) {
        let n = n0 + j * WORKGROUP;
        if n < params.rows {
            if WHOLE_SUM { finish_i32(m, n, total[j], x_scale[m] * scale_at(n, 0u)); }
            else { finish_chunks(m, n, sums[j]); }
        }
    }
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = (tile / tiles_n) * TILE_M;
    let n0 = (tile % tiles_n) * TILE_N + lane;
    if m0 >= params.m { return; }
    // Rows past the end repeat the last one; their sums are never stored.
    let last = params.rows - 1u;
    let n = min(vec4<u32>(n0, n0 + WORKGROUP, n0 + 2u * WORKGROUP, n0 + 3u * WORKGROUP), vec4<u32>(last));
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var s: Sums;
    var t: Totals;
    for (var chunk = 0u; chunk < chunks; chunk++) {
        let at = chunk * 8u + lane;
        let q = Quads(array<vec4<f32>, 8>(quad(m0, at), quad(m0 + 1u, at), quad(m0 + 2u, at), quad(m0 + 3u, at),
                                          quad(m0 + 4u, at), quad(m0 + 5u, at), quad(m0 + 6u, at), quad(m0 + 7u, at)));
        let part = advance(Sums(), code_weights(n.x, chunk), code_weights(n.y, chunk),
                           code_weights(n.z, chunk), code_weights(n.w, chunk), q);
        if WHOLE_SUM {
            t.i[0] += vec4<i32>(part.a[0]);
            t.i[1] += vec4<i32>(part.a[1]);
            t.i[2] += vec4<i32>(part.a[2]);
            t.i[3] += vec4<i32>(part.a[3]);
            t.i[4] += vec4<i32>(part.a[4]);
            t.i[5] += vec4<i32>(part.a[5]);
            t.i[6] += vec4<i32>(part.a[6]);
            t.i[7] += vec4<i32>(part.a[7]);
        } else {
            let k = chunk * CHUNK;
            let scale = vec4<f32>(scale_at(n.x, k), scale_at(n.y, k), scale_at(n.z, k), scale_at(n.w, k));
            s.a[0] += part.a[0] * scale * chunk_scale(m0, chunk);
            s.a[1] += part.a[1] * scale * chunk_scale(m0 + 1u, chunk);
            s.a[2] += part.a[2] * scale * chunk_scale(m0 + 2u, chunk);
            s.a[3] += part.a[3] * scale * chunk_scale(m0 + 3u, chunk);
            s.a[4] += part.a[4] * scale * chunk_scale(m0 + 4u, chunk);
            s.a[5] += part.a[5] * scale * chunk_scale(m0 + 5u, chunk);
            s.a[6] += part.a[6] * scale * chunk_scale(m0 + 6u, chunk);
            s.a[7] += part.a[7] * scale * chunk_scale(m0 + 7u, chunk);
        }
    }
    finish_row(m0, n0, t.i[0], s.a[0]);
    finish_row(m0 + 1u, n0, t.i[1], s.a[1]);
    finish_row(m0 + 2u, n0, t.i[2], s.a[2]);
    finish_row(m0 + 3u, n0, t.i[3], s.a[3]);
    finish_row(m0 + 4u, n0, t.i[4], s.a[4]);
    finish_row(m0 + 5u, n0, t.i[5], s.a[5]);
    finish_row(m0 + 6u, n0, t.i[6], s.a[6]);
    finish_row(m0 + 7u, n0, t.i[7], s.a[7]);
}
