// quantize: dynamic symmetric quantization of activations. scale = max / q_max (1 if the maximum is 0), over
// the row (PER_TENSOR 0) or over the rows of its sequence (1); codes are packed as i8x4 words,
// padded with zero codes to whole chunks. Partition: one workgroup per row.
fn code(row: u32, k: u32, scale: f32) -> i32 {
    if k >= params.cols { return 0; }
    let limit = f32(params.q_max);
    return i32(clamp(round(x[row * params.x_stride + k] / scale), -limit, limit));
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    var largest = maxima[row];
    if PER_TENSOR == 1u {
        largest = 0.0;
        for (var r = tokens[row].begin + lane; r < tokens[row].end; r += WORKGROUP) { largest = max(largest, maxima[r]); }
        largest = workgroup_max(largest, lane);
    }
    let scale = symmetric_scale(largest, f32(params.q_max));
    for (var word = lane; word < params.y_stride; word += WORKGROUP) {
        let k = 4u * word;
        y[row * params.y_stride + word] = pack4xI8(vec4<i32>(
            code(row, k, scale), code(row, k + 1u, scale), code(row, k + 2u, scale), code(row, k + 3u, scale)));
    }
    if lane == 0u { x_scale[row] = scale; }
}
