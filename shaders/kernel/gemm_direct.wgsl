// gemm_direct: gemm for software drivers, where a workgroup is one CPU thread: no workgroup memory, no barriers.
// Partition: lib/direct.wgsl; an invocation advances over all of K, chunk by chunk.
fn x_chunk(at: u32) -> Weights {
    return Weights(array<vec4<f32>, 8>(x[at], x[at + 1u], x[at + 2u], x[at + 3u],
                                       x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]));
}

fn weights_of(n: vec4<u32>, chunk: u32) -> Four {
    return Four(weights_at(n.x, chunk), weights_at(n.y, chunk), weights_at(n.z, chunk), weights_at(n.w, chunk));
}

// Sums of row m with what exceptions of the matrix add to them.
fn patched_row(m: u32, n: vec4<u32>, sums: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(patched(m, n.x, sums.x), patched(m, n.y, sums.y), patched(m, n.z, sums.z), patched(m, n.w, sums.w));
}

fn finish_rows(m: u32, n0: u32, n: vec4<u32>, s: Sums) {
    for (var i = 0u; i < 8u; i++) {
        if m + i < params.m { end_row(m + i, n0, patched_row(m + i, n, s.a[i])); }
    }
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = params.m_first + (tile / tiles_n) * TILE_M;
    let n0 = (tile % tiles_n) * TILE_N + first_column(lane);
    // Rows past the end repeat the last one; their sums are never stored.
    let x0 = min(m0 + lane, params.m - 1u) * (params.x_stride / 4u) - params.x_base;
    let x8 = min(m0 + 8u + lane, params.m - 1u) * (params.x_stride / 4u) - params.x_base;
    if m0 >= params.m { return; }
    let n = own_columns(n0);
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    prepare(lane);
    var low: Sums;
    var high: Sums;  // of rows 8 to 15 of a tall tile
    for (var chunk = 0u; chunk < chunks; chunk++) {
        let w = weights_of(n, chunk);
        low = advance(low, w, x_chunk(x0 + chunk * 8u));
        if TALL { high = advance(high, w, x_chunk(x8 + chunk * 8u)); }
    }
    finish_rows(m0, n0, n, low);
    if TALL { finish_rows(m0 + 8u, n0, n, high); }
}
