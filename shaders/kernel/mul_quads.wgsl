// mul_quads: mul, four elements at a time. Partition: one invocation per quad.
// Preconditions: columns and strides are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let quads = params.cols / 4u;
    let row = at / quads;
    if row >= params.m { return; }
    let k = at % quads;
    y_put(row * (params.y_stride / 4u) + k,
          x_at(row * (params.x_stride / 4u) + k) * z_at(row * (params.z_stride / 4u) + k));
}
