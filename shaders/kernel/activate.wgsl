// activate: y = f(x), FUNCTION as in lib/functions.wgsl. Partition: one invocation per element.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / params.cols;
    if row >= params.m { return; }
    let k = at - row * params.cols;
    y[row * params.y_stride + k] = activation(x[row * params.x_stride + k]);
}
