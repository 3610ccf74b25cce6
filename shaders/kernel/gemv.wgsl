// gemv: y[m, n] = finish(sum_k x[m, k] W[n, k]) for m <= TILE_M tokens.
// Partition: LANES invocations share THREAD_N rows of W and stride over their chunks; partial sums are
// reduced in workgroup memory. x rows are padded with zeros to whole chunks.
const_assert WORKGROUP % LANES == 0u;
const_assert TILE_M >= 1u && THREAD_N >= 1u;
const SUMS: u32 = TILE_M * THREAD_N;
// Columns of y of an invocation; in a gated product it owns two rows of W for each.
const COLUMNS: u32 = select(THREAD_N, THREAD_N / 2u, GATED);
const_assert COLUMNS >= 1u && (!GATED || THREAD_N % 2u == 0u);

var<workgroup> partial: array<f32, select(1u, WORKGROUP * SUMS, LANES > 1u)>;

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let position = lane % LANES;
    let n0 = (folded(group, groups) * (WORKGROUP / LANES) + lane / LANES) * COLUMNS;
    let columns = select(params.rows, params.rows / 2u, GATED);
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var acc: array<f32, SUMS>;
    for (var i = 0u; i < SUMS; i++) { acc[i] = 0.0; }
    for (var chunk = position; chunk < chunks; chunk += LANES) {
        for (var j = 0u; j < THREAD_N; j++) {
            // Rows past the end read row 0 again; their sums are never stored.
            let n = n0 + j % COLUMNS;
            let row = select(0u, n + (j / COLUMNS) * columns, n < columns);
            let w = weights_at(row, chunk);
            for (var m = 0u; m < TILE_M; m++) {
                let at = (min(m, params.m - 1u) * params.x_stride + chunk * CHUNK) / 4u - params.x_base;
                acc[m * THREAD_N + j] += dot(w.v[0], x[at]) + dot(w.v[1], x[at + 1u])
                    + dot(w.v[2], x[at + 2u]) + dot(w.v[3], x[at + 3u])
                    + dot(w.v[4], x[at + 4u]) + dot(w.v[5], x[at + 5u])
                    + dot(w.v[6], x[at + 6u]) + dot(w.v[7], x[at + 7u]);
            }
        }
    }
    if LANES > 1u {
        for (var i = 0u; i < SUMS; i++) { partial[i * WORKGROUP + lane] = acc[i]; }
        workgroupBarrier();
        for (var width = LANES / 2u; width > 0u; width >>= 1u) {
            if position < width {
                for (var i = 0u; i < SUMS; i++) {
                    partial[i * WORKGROUP + lane] += partial[i * WORKGROUP + lane + width];
                }
            }
            workgroupBarrier();
        }
        if position == 0u {
            for (var i = 0u; i < SUMS; i++) { acc[i] = partial[i * WORKGROUP + lane]; }
        }
    }
    if position != 0u { return; }
    for (var m = 0u; m < TILE_M; m++) {
        for (var j = 0u; j < COLUMNS; j++) {
            let n = n0 + j;
            if m >= params.m || n >= columns { continue; }
            let sum = patched(m, n, acc[m * THREAD_N + j]);
            if GATED {
                finish_gated(m, n, sum, patched(m, n + columns, acc[m * THREAD_N + COLUMNS + j]));
            } else {
                finish(m, n, sum);
            }
        }
    }
}
