// attention_scores: naive pass 1. scores[t, h, j] = scale * q[t, h] . k[j, h / (heads / kv_heads)] for
// the positions j that t sees, -3e38 for the others. Partition: one invocation per score.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / params.span;  // t * heads + h
    if row >= params.m * params.heads { return; }
    let j = at - row * params.span;
    let t = row / params.heads;
    let h = row - t * params.heads;
    var score = -3.0e38;
    let seen = seen_by(t);
    if j >= seen.first && j < seen.end {
        let q0 = t * params.x_stride + params.x_offset + h * params.head_dim;
        let head = h / (params.heads / params.kv_heads);
        let stride = (params.head_dim + 3u) / 4u * 4u;
        let k0 = ((tokens[t].sequence * params.context + j) * params.kv_heads + head) * stride;
        var sum = 0.0;
        for (var d = 0u; d < params.head_dim; d++) { sum += x[q0 + d] * k_cache[k0 + d]; }
        score = sum * bitcast<f32>(params.scale);
    }
    scores[at] = score;
}
