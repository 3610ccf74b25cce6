// round_nvfp4: y[m, k] = what x[m, k] becomes in NVFP4, as bits: t = max |x| / (448 * 6) of the sequence, s =
// E4M3(max |x| / 6 / t) of 16 columns, E2M1(x / (t * s)) * (t * s). Quotients are correctly rounded; E4M3 and E2M1 are the
// two step functions of `table`. Partition: one workgroup per row, one invocation per block of 16.
const BLOCK: u32 = 16u;
const E4M3: u32 = 0u;
const E2M1: u32 = 1u;

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    var largest = 0.0;
    for (var r = tokens[row].begin + lane; r < tokens[row].end; r += WORKGROUP) { largest = max(largest, maxima[r]); }
    largest = workgroup_max(largest, lane);
    // 1 for zeros; at least 2^-100, so that the products of scales are normal numbers.
    let tensor = select(0x3f800000u, max(quotient(bitcast<u32>(largest), 0x45280000u), 0x0d800000u), largest > 0.0);
    for (var first = lane * BLOCK; first < params.cols; first += WORKGROUP * BLOCK) {
        let end = min(first + BLOCK, params.cols);
        var block_largest = 0u;
        for (var k = first; k < end; k++) { block_largest = max(block_largest, x[row * params.x_stride + k] & 0x7fffffffu); }
        let block = step_value(E4M3, quotient(quotient(block_largest, 0x40c00000u), tensor));
        let scale = bitcast<f32>(tensor) * bitcast<f32>(block);
        for (var k = first; k < end; k++) {
            let bits = x[row * params.x_stride + k];
            var value = 0u;
            if block != 0u {
                let steps = quotient(bits & 0x7fffffffu, bitcast<u32>(scale)) | (bits & 0x80000000u);
                value = bitcast<u32>(bitcast<f32>(step_value(E2M1, steps)) * scale);
            }
            y[row * params.y_stride + k] = value;
        }
    }
}
