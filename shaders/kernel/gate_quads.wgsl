// gate_quads: y = f(gate) * up, where a row of x holds the columns of gate and then as many of up; f is FUNCTION of
// lib/functions.wgsl. Partition: one invocation per quad of y. Preconditions: columns of y and strides are multiples of 4.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let quads = params.cols / 4u;
    let row = at / quads;
    if row >= params.m { return; }
    let k = at % quads;
    let x0 = row * (params.x_stride / 4u) + k;
    y_put(row * (params.y_stride / 4u) + k, activated(x_at(x0)) * x_at(x0 + quads));
}
