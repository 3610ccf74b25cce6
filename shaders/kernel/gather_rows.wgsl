// gather_rows: y[i, :] = x[outputs[i], :], with what follows in the last quad of a row. Partition: one invocation per quad.
// Preconditions: strides are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let quads = (params.cols + 3u) / 4u;
    let row = at / quads;
    if row >= params.m { return; }
    let k = at - row * quads;
    y_put(row * (params.y_stride / 4u) + k, x_at(outputs[row] * (params.x_stride / 4u) + k));
}
