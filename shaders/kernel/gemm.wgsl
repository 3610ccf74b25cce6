// gemm: y[m, n] = finish(sum_k x[m, k] W[n, k]).
// Partition: a workgroup owns a TILE_M x TILE_N tile and advances over K in slices of one chunk (32);
// an invocation owns THREAD_M x THREAD_N sums, rows and columns apart by the invocation grid.
const SLICE: u32 = 8u;  // vec4 per slice and row
const GRID_N: u32 = TILE_N / THREAD_N;
const GRID_M: u32 = TILE_M / THREAD_M;
const_assert WORKGROUP == GRID_M * GRID_N;
const_assert SLICE * 16u * (TILE_M + TILE_N) <= 16384u;

// Columns are swizzled by the row, so that invocations of neighbouring rows hit different banks.
var<workgroup> x_tile: array<vec4<f32>, TILE_M * SLICE>;  // [TILE_M, SLICE]
var<workgroup> w_tile: array<vec4<f32>, TILE_N * SLICE>;  // [TILE_N, SLICE]

fn place(row: u32, i: u32) -> u32 { return row * SLICE + (i ^ (row % SLICE)); }

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = (tile / tiles_n) * TILE_M;
    let n0 = (tile % tiles_n) * TILE_N;
    if m0 >= params.m { return; }
    let column = lane % GRID_N;
    let line = lane / GRID_N;
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var acc: array<array<f32, THREAD_N>, THREAD_M>;
    for (var i = 0u; i < THREAD_M; i++) {
        for (var j = 0u; j < THREAD_N; j++) { acc[i][j] = 0.0; }
    }
    for (var chunk = 0u; chunk < chunks; chunk++) {
        for (var i = lane; i < TILE_M * SLICE; i += WORKGROUP) {
            let row = i / SLICE;
            let m = min(m0 + row, params.m - 1u);
            x_tile[place(row, i % SLICE)] = x[(m * params.x_stride + chunk * CHUNK) / 4u + i % SLICE];
        }
        for (var row = lane; row < TILE_N; row += WORKGROUP) {
            let w = weights_at(min(n0 + row, params.rows - 1u), chunk);
            w_tile[place(row, 0u)] = w.v[0];
            w_tile[place(row, 1u)] = w.v[1];
            w_tile[place(row, 2u)] = w.v[2];
            w_tile[place(row, 3u)] = w.v[3];
            w_tile[place(row, 4u)] = w.v[4];
            w_tile[place(row, 5u)] = w.v[5];
            w_tile[place(row, 6u)] = w.v[6];
            w_tile[place(row, 7u)] = w.v[7];
        }
        workgroupBarrier();
        for (var k = 0u; k < SLICE; k++) {
            var a: array<vec4<f32>, THREAD_M>;
            for (var i = 0u; i < THREAD_M; i++) { a[i] = x_tile[place(line + i * GRID_M, k)]; }
            for (var j = 0u; j < THREAD_N; j++) {
                let b = w_tile[place(column + j * GRID_N, k)];
                for (var i = 0u; i < THREAD_M; i++) { acc[i][j] += dot(a[i], b); }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < THREAD_M; i++) {
        for (var j = 0u; j < THREAD_N; j++) {
            let m = m0 + line + i * GRID_M;
            let n = n0 + column + j * GRID_N;
            if m < params.m && n < params.rows { finish(m, n, patched(m, n, acc[i][j])); }
        }
    }
}
