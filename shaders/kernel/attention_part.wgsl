// attention_part: attention over parts of the positions that a token sees, where tokens and heads are too few to occupy
// a device: partial[t, h, part], QUADS quads of weighted values, then (largest score, sum of weights, 0, 0), see
// lib/attend.wgsl; attention_join makes y of them (split KV, Dao et al. 2023, "Flash-Decoding").
// Partition: one workgroup per (token, head, part).
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups);
    let row = at / params.parts;
    if row >= params.m * params.heads { return; }
    let t = row / params.heads;
    let result = attend(lane, t, row - t * params.heads, at - row * params.parts, params.parts);
    let first = at * (params.partial_stride / 4u);
    for (var i = 0u; i < OWNED; i++) {
        let quad = lane + i * WORKGROUP;
        if quad < QUADS { partial[first + quad] = result.acc[i]; }
    }
    if lane == 0u { partial[first + QUADS] = vec4<f32>(result.largest, result.sum, 0.0, 0.0); }
}
