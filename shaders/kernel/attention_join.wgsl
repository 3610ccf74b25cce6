// attention_join: y of what attention_part left of the parts: sum_p exp(largest_p - largest) * values_p over
// sum_p exp(largest_p - largest) * sum_p, `largest` being that of all parts. A part without positions has a sum of 0.
// Partition: one invocation per quad of y.
const QUADS: u32 = (HEAD_DIM + 3u) / 4u;

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / QUADS;
    if row >= params.m * params.heads { return; }
    let quad = at - row * QUADS;
    let t = row / params.heads;
    let stride = params.partial_stride / 4u;
    let first = row * params.parts * stride;
    var largest = -3.0e38;
    for (var p = 0u; p < params.parts; p++) { largest = max(largest, partial[first + p * stride + QUADS].x); }
    var values = vec4<f32>();
    var sum = 0.0;
    for (var p = 0u; p < params.parts; p++) {
        let of_part = partial[first + p * stride + QUADS];
        let weight = select(0.0, exp(of_part.x - largest), of_part.y > 0.0);
        values += weight * partial[first + p * stride + quad];
        sum += weight * of_part.y;
    }
    let y0 = t * params.y_stride + (row - t * params.heads) * HEAD_DIM;
    for (var e = 0u; e < 4u; e++) {
        let d = 4u * quad + e;
        if d < HEAD_DIM { y[y0 + d] = values[e] / sum; }
    }
}
