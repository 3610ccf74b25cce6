// rms_norm_quantize: the codes and scales that quantize makes, with one scale per row, of what rms_norm makes of x; for
// where nothing else reads those values, so that they are never stored.
// Partition: one workgroup per row, which walks over it three times: its squares, its largest value, its codes.
fn value(first: u32, k: u32, factor: f32) -> f32 { return x[first + k] * factor * weight[k]; }

fn code(first: u32, k: u32, factor: f32, scale: f32) -> i32 {
    if k >= params.cols { return 0; }
    let limit = f32(params.q_max);
    return i32(clamp(round(value(first, k, factor) / scale), -limit, limit));
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    let first = row * params.x_stride;
    var squares = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { squares += x[first + k] * x[first + k]; }
    let mean = workgroup_sum(squares, lane) / f32(params.cols);
    let factor = 1.0 / sqrt(mean + bitcast<f32>(params.eps));
    var most = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) { most = max(most, abs(value(first, k, factor))); }
    let scale = symmetric_scale(workgroup_max(most, lane), f32(params.q_max));
    for (var word = lane; word < params.y_stride; word += WORKGROUP) {
        let k = 4u * word;
        y[row * params.y_stride + word] = pack4xI8(vec4<i32>(
            code(first, k, factor, scale), code(first, k + 1u, factor, scale),
            code(first, k + 2u, factor, scale), code(first, k + 3u, factor, scale)));
    }
    if lane == 0u { x_scale[row] = scale; }
}
