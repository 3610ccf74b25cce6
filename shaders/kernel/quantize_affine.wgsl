// quantize_affine: dynamic quantization with a zero point, codes 0..=127: scale = (high - low) / 127 over the rows of a
// sequence, code = clamp(rne(x / scale) + zero, 0, 127) - zero, which 7 bits and a sign hold. Codes are packed as i8x4
// words, padded with zero codes to whole chunks. Partition: one workgroup per row.
fn code(row: u32, k: u32, scale: f32, zero: f32) -> i32 {
    if k >= params.cols { return 0; }
    return i32(clamp(round(x[row * params.x_stride + k] / scale), -zero, 127.0 - zero));
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    var low = 0.0;
    var high = 0.0;
    for (var r = tokens[row].begin + lane; r < tokens[row].end; r += WORKGROUP) {
        low = min(low, ranges[r].x);
        high = max(high, ranges[r].y);
    }
    low = -workgroup_max(-low, lane);
    high = workgroup_max(high, lane);
    // Halves: the range may exceed f32. Scales below the normal numbers may be flushed and count as 0.
    let step = (0.5 * high - 0.5 * low) / 63.5;
    let scale = select(0.1, step, step >= 1.17549435e-38);
    let zero = clamp(round(-low / scale), 0.0, 127.0);
    for (var word = lane; word < params.y_stride; word += WORKGROUP) {
        let k = 4u * word;
        y[row * params.y_stride + word] = pack4xI8(vec4<i32>(
            code(row, k, scale, zero), code(row, k + 1u, scale, zero),
            code(row, k + 2u, scale, zero), code(row, k + 3u, scale, zero)));
    }
    if lane == 0u { x_scale[row] = scale; }
}
