// gemm_f16: gemm in f16, for devices that multiply those faster: half the workgroup memory, two products at a time.
// x and W are rounded to f16: 11 significant bits, largest magnitude 65504. The products of a chunk are summed in f16, even
// and odd columns apart, so that 16 rounded sums follow one another; chunks are summed in f32.
// Partition: as gemm.
const SLICE: u32 = 8u;  // vec4 per slice and row
const GRID_N: u32 = TILE_N / THREAD_N;
const GRID_M: u32 = TILE_M / THREAD_M;
const_assert WORKGROUP == GRID_M * GRID_N;
const_assert SLICE * 8u * (TILE_M + TILE_N) <= 16384u;

// Columns are swizzled by the row, so that invocations of neighbouring rows hit different banks.
var<workgroup> x_tile: array<vec4<f16>, TILE_M * SLICE>;  // [TILE_M, SLICE]
var<workgroup> w_tile: array<vec4<f16>, TILE_N * SLICE>;  // [TILE_N, SLICE]

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
            let quad = x[(m * params.x_stride + chunk * CHUNK) / 4u + i % SLICE];
            x_tile[place(row, i % SLICE)] = vec4<f16>(quad);
        }
        for (var row = lane; row < TILE_N; row += WORKGROUP) {
            let w = weights_at(min(n0 + row, params.rows - 1u), chunk);
            w_tile[place(row, 0u)] = vec4<f16>(w.v[0]);
            w_tile[place(row, 1u)] = vec4<f16>(w.v[1]);
            w_tile[place(row, 2u)] = vec4<f16>(w.v[2]);
            w_tile[place(row, 3u)] = vec4<f16>(w.v[3]);
            w_tile[place(row, 4u)] = vec4<f16>(w.v[4]);
            w_tile[place(row, 5u)] = vec4<f16>(w.v[5]);
            w_tile[place(row, 6u)] = vec4<f16>(w.v[6]);
            w_tile[place(row, 7u)] = vec4<f16>(w.v[7]);
        }
        workgroupBarrier();
        var part: array<array<vec2<f16>, THREAD_N>, THREAD_M>;
        for (var i = 0u; i < THREAD_M; i++) {
            for (var j = 0u; j < THREAD_N; j++) { part[i][j] = vec2<f16>(); }
        }
        for (var k = 0u; k < SLICE; k++) {
            var a: array<vec4<f16>, THREAD_M>;
            for (var i = 0u; i < THREAD_M; i++) { a[i] = x_tile[place(line + i * GRID_M, k)]; }
            for (var j = 0u; j < THREAD_N; j++) {
                let b = w_tile[place(column + j * GRID_N, k)];
                for (var i = 0u; i < THREAD_M; i++) {
                    part[i][j] = a[i].zw * b.zw + (a[i].xy * b.xy + part[i][j]);
                }
            }
        }
        for (var i = 0u; i < THREAD_M; i++) {
            for (var j = 0u; j < THREAD_N; j++) {
                let sums = vec2<f32>(part[i][j]);
                acc[i][j] += sums.x + sums.y;
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
