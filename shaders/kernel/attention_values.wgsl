// attention_values: naive pass 3. y[t, h, d] = sum_j p[t, h, j] v[j, h / (heads / kv_heads), d] over the
// positions j that t sees.
// Partition: one invocation per output element.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let width = params.heads * params.head_dim;
    let at = folded(group, groups) * WORKGROUP + lane;
    let t = at / width;
    if t >= params.m { return; }
    let column = at - t * width;
    let h = column / params.head_dim;
    let d = column - h * params.head_dim;
    let head = h / (params.heads / params.kv_heads);
    let stride = (params.head_dim + 3u) / 4u * 4u;
    var sum = 0.0;
    let seen = seen_by(t);
    for (var j = seen.first; j < seen.end; j++) {
        let v0 = ((tokens[t].sequence * params.context + j) * params.kv_heads + head) * stride;
        sum += scores[(t * params.heads + h) * params.span + j] * v_cache[v0 + d];
    }
    y[t * params.y_stride + column] = sum;
}
