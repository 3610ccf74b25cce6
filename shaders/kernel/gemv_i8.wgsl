// gemv_i8: y[m, n] = finish(sum_k code_x[m, k] x_scale code_W[n, k] scale_W) for m <= TILE_M tokens; dot products in
// i32, over all of K or per chunk: lib/x_scale.wgsl.
// Partition: as gemv. x holds i8x4 words, 8 per chunk, padded with zero codes.
const_assert WORKGROUP % LANES == 0u;
const SUMS: u32 = TILE_M * THREAD_N;
// Columns of y of an invocation; in a gated product it owns two rows of W for each.
const COLUMNS: u32 = select(THREAD_N, THREAD_N / 2u, GATED);
const_assert COLUMNS >= 1u && (!GATED || THREAD_N % 2u == 0u);

var<workgroup> partial: array<f32, select(1u, WORKGROUP * SUMS, LANES > 1u)>;
var<workgroup> partial_i: array<i32, select(1u, WORKGROUP * SUMS, LANES > 1u)>;

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

// A sum of row n of W as a float with all of its scales.
fn whole(m: u32, n: u32, sum: i32, acc: f32) -> f32 {
    if WHOLE_SUM { return f32(sum) * (x_scale[m] * scale_at(n, 0u)); }
    if X_PER_CHUNK == 1u { return acc; }
    return acc * x_scale[m];
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let position = lane % LANES;
    let n0 = (folded(group, groups) * (WORKGROUP / LANES) + lane / LANES) * COLUMNS;
    let columns = select(params.rows, params.rows / 2u, GATED);
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var acc: array<f32, SUMS>;
    var sum: array<i32, SUMS>;
    for (var i = 0u; i < SUMS; i++) { acc[i] = 0.0; sum[i] = 0; }
    for (var chunk = position; chunk < chunks; chunk += LANES) {
        for (var j = 0u; j < THREAD_N; j++) {
            let n = n0 + j % COLUMNS;
            let row = select(0u, n + (j / COLUMNS) * columns, n < columns);
            let c = codes_at(row, chunk);
            let low = vec4<u32>(pack4xI8(c.q[0]), pack4xI8(c.q[1]), pack4xI8(c.q[2]), pack4xI8(c.q[3]));
            let high = vec4<u32>(pack4xI8(c.q[4]), pack4xI8(c.q[5]), pack4xI8(c.q[6]), pack4xI8(c.q[7]));
            var scale = 0.0;
            if !WHOLE_SUM { scale = scale_at(row, chunk * CHUNK); }
            for (var m = 0u; m < TILE_M; m++) {
                let at = (min(m, params.m - 1u) * params.x_stride + chunk * 8u) / 4u - params.x_base;
                let products = dot16(low, x[at]) + dot16(high, x[at + 1u]);
                if WHOLE_SUM { sum[m * THREAD_N + j] += products; }
                else { acc[m * THREAD_N + j] += f32(products) * scale * chunk_scale(m, chunk); }
            }
        }
    }
    if LANES > 1u {
        for (var i = 0u; i < SUMS; i++) {
            partial[i * WORKGROUP + lane] = acc[i];
            partial_i[i * WORKGROUP + lane] = sum[i];
        }
        workgroupBarrier();
        for (var width = LANES / 2u; width > 0u; width >>= 1u) {
            if position < width {
                for (var i = 0u; i < SUMS; i++) {
                    partial[i * WORKGROUP + lane] += partial[i * WORKGROUP + lane + width];
                    partial_i[i * WORKGROUP + lane] += partial_i[i * WORKGROUP + lane + width];
                }
            }
            workgroupBarrier();
        }
        if position == 0u {
            for (var i = 0u; i < SUMS; i++) {
                acc[i] = partial[i * WORKGROUP + lane];
                sum[i] = partial_i[i * WORKGROUP + lane];
            }
        }
    }
    if position != 0u { return; }
    for (var m = 0u; m < TILE_M; m++) {
        for (var j = 0u; j < COLUMNS; j++) {
            let n = n0 + j;
            if m < params.m && n < columns {
                if GATED {
                    let at = m * THREAD_N + j;
                    finish_gated(m, n, whole(m, n, sum[at], acc[at]),
                                 whole(m, n + columns, sum[at + COLUMNS], acc[at + COLUMNS]));
                } else if WHOLE_SUM { finish_i32(m, n, sum[m * THREAD_N + j], x_scale[m] * scale_at(n, 0u)); }
                else { finish_chunks(m, n, acc[m * THREAD_N + j]); }
            }
        }
    }
}
