// quantize_steps: as round_steps to integer codes, packed as i8x4 words and padded with zero codes to whole chunks;
// x_scale[m, scale_stride] = what a code is worth, for every chunk or (scale_stride 1) once per row.
// Partition: one invocation per word. Precondition: blocks are whole chunks or rows.
fn code(row: u32, k: u32, scale: u32) -> i32 {
    if k >= params.cols { return 0; }
    return bitcast<i32>(step_value(scale, x[row * params.x_stride + k]));
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / params.y_stride;
    if row >= params.m { return; }
    let word = at - row * params.y_stride;
    let k = 4u * word;
    let scale = block_scale(row, min(k, params.cols - 1u) / params.block);
    y[at] = pack4xI8(vec4<i32>(
        code(row, k, scale), code(row, k + 1u, scale), code(row, k + 2u, scale), code(row, k + 3u, scale)));
    if word % 8u == 0u && word / 8u < params.scale_stride {
        x_scale[row * params.scale_stride + word / 8u] = table[params.scales + scale];
    }
}
