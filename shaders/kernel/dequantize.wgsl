// dequantize: y[rows, y_stride] = W[rows, cols] as binary32 bit patterns; columns past cols become 0.
// Partition: one invocation per chunk, chunks of a row next to each other.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let chunks = params.y_stride / CHUNK;
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / chunks;
    if row >= params.rows { return; }
    let chunk = at - row * chunks;
    let b = bits_at(row, chunk);
    let first = row * params.y_stride + chunk * CHUNK;
    for (var i = 0u; i < 8u; i++) {
        for (var e = 0u; e < 4u; e++) {
            let k = 4u * i + e;
            let column = chunk * CHUNK + k;
            y[first + k] = select(0u, patched_bits(row, column, b.b[i][e]), column < params.cols);
        }
    }
}
