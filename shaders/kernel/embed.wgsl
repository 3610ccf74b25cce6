// embed: y[t, 0..cols] = table row of token t, by id (SOURCE 0), by position (SOURCE 1) or by segment (SOURCE 2); a
// table that is split by rows is visited part by part, each part writing the tokens whose row it holds.
// Partition: one invocation per (token, chunk).
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let chunks = params.y_stride / CHUNK;
    let at = folded(group, groups) * WORKGROUP + lane;
    let t = at / chunks;
    if t >= params.m { return; }
    let chunk = at - t * chunks;
    let entry = select(select(tokens[t].id, tokens[t].position, SOURCE == 1u), tokens[t].segment, SOURCE == 2u);
    if entry < params.first_row || entry >= params.first_row + params.rows { return; }
    let row = entry - params.first_row;
    let w = weights_at(row, chunk);
    let first = t * params.y_stride + chunk * CHUNK;
    for (var i = 0u; i < 8u; i++) {
        for (var e = 0u; e < 4u; e++) {
            let k = 4u * i + e;
            let column = chunk * CHUNK + k;
            if column < params.cols {
                y[first + k] = bitcast<f32>(patched_bits(row, column, bitcast<u32>(w.v[i][e])));
            }
        }
    }
}
