// block_absmax: maxima[m, blocks] = largest magnitude of params.block columns of a row, as bits, which order like the
// magnitudes and are not flushed; least[m] = none. Partition: one invocation per row and block.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / params.blocks;
    if row >= params.m { return; }
    let block = at - row * params.blocks;
    let end = min((block + 1u) * params.block, params.cols);
    var largest = 0u;
    for (var k = block * params.block; k < end; k++) {
        largest = max(largest, x[row * params.x_stride + k] & 0x7fffffffu);
    }
    maxima[at] = largest;
    if block == 0u { least[row] = 0xffffffffu; }
}
