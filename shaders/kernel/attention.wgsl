// attention: y = softmax(scale * q k^T) v over the KV cache, see lib/attend.wgsl.
// Partition: one workgroup per (token, head).
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m * params.heads { return; }
    let t = row / params.heads;
    let h = row - t * params.heads;
    let result = attend(lane, t, h, 0u, 1u);
    for (var i = 0u; i < OWNED; i++) {
        let quad = lane + i * WORKGROUP;
        for (var e = 0u; e < 4u; e++) {
            let d = 4u * quad + e;
            if d < HEAD_DIM { y[t * params.y_stride + h * HEAD_DIM + d] = result.acc[i][e] / result.sum; }
        }
    }
}
