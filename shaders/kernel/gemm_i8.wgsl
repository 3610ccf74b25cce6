// gemm_i8: as gemv_i8 for any number of tokens: packed i8x4 operands, dot4I8Packed, i32 accumulators.
// Partition: as gemm; a slice is one chunk = 8 words of i8x4 per row.
const SLICE: u32 = 2u;  // vec4<u32> of i8x4 words per slice and row
const GRID_N: u32 = TILE_N / THREAD_N;
const GRID_M: u32 = TILE_M / THREAD_M;
const_assert WORKGROUP == GRID_M * GRID_N;
const_assert SLICE * 16u * (TILE_M + TILE_N) + (TILE_M + TILE_N) * 4u <= 16384u;

var<workgroup> x_tile: array<vec4<u32>, TILE_M * SLICE>;  // [TILE_M, SLICE]
var<workgroup> w_tile: array<vec4<u32>, TILE_N * SLICE>;  // [TILE_N, SLICE]
var<workgroup> s_tile: array<f32, TILE_N>;                // scale of the chunk, per row of W
var<workgroup> x_scale_tile: array<f32, select(1u, TILE_M, X_PER_CHUNK == 1u)>;

fn words(a: vec4<i32>, b: vec4<i32>, c: vec4<i32>, d: vec4<i32>) -> vec4<u32> {
    return vec4<u32>(pack4xI8(a), pack4xI8(b), pack4xI8(c), pack4xI8(d));
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = (tile / tiles_n) * TILE_M;
    let n0 = (tile % tiles_n) * TILE_N;
    if m0 >= params.m { return; }
    let column = lane % GRID_N;
    let line = lane / GRID_N;
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var sum: array<array<i32, THREAD_N>, THREAD_M>;
    var acc: array<array<f32, THREAD_N>, THREAD_M>;
    for (var i = 0u; i < THREAD_M; i++) {
        for (var j = 0u; j < THREAD_N; j++) { sum[i][j] = 0; acc[i][j] = 0.0; }
    }
    for (var chunk = 0u; chunk < chunks; chunk++) {
        for (var i = lane; i < TILE_M * SLICE; i += WORKGROUP) {
            let at = min(m0 + i / SLICE, params.m - 1u) * params.x_stride + chunk * 8u + (i % SLICE) * 4u;
            x_tile[i] = vec4<u32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
        }
        for (var row = lane; row < TILE_N; row += WORKGROUP) {
            let n = min(n0 + row, params.rows - 1u);
            let c = codes_at(n, chunk);
            w_tile[row * SLICE] = words(c.q[0], c.q[1], c.q[2], c.q[3]);
            w_tile[row * SLICE + 1u] = words(c.q[4], c.q[5], c.q[6], c.q[7]);
            s_tile[row] = scale_at(n, chunk * CHUNK);
        }
        if X_PER_CHUNK == 1u {
            for (var row = lane; row < TILE_M; row += WORKGROUP) { x_scale_tile[row] = chunk_scale(m0 + row, chunk); }
        }
        workgroupBarrier();
        for (var j = 0u; j < THREAD_N; j++) {
            let row = column + j * GRID_N;
            let low = w_tile[row * SLICE];
            let high = w_tile[row * SLICE + 1u];
            let scale = s_tile[row];
            for (var i = 0u; i < THREAD_M; i++) {
                let at = (line + i * GRID_M) * SLICE;
                let products = dot16(x_tile[at], low) + dot16(x_tile[at + 1u], high);
                if WHOLE_SUM { sum[i][j] += products; }
                else if X_PER_CHUNK == 0u { acc[i][j] += f32(products) * scale; }
                else { acc[i][j] += f32(products) * scale * x_scale_tile[at / SLICE]; }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < THREAD_M; i++) {
        for (var j = 0u; j < THREAD_N; j++) {
            let m = m0 + line + i * GRID_M;
            let n = n0 + column + j * GRID_N;
            if m < params.m && n < params.rows {
                if WHOLE_SUM { finish_i32(m, n, sum[i][j], x_scale[m] * scale_at(n, 0u)); }
                else { finish_chunks(m, n, acc[i][j]); }
            }
        }
    }
}
