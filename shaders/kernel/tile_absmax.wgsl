// tile_absmax: blocks of params.tile_rows rows (0: the whole sequence) counted from the first row of a sequence. Every
// row of maxima[m, blocks] gets the largest of its tile, and least[m], at the first row of a sequence, the smallest of
// its tiles that is not 0. Partition: one invocation per row and block; those of the first row of a tile do the work.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / params.blocks;
    if row >= params.m { return; }
    let block = at - row * params.blocks;
    let begin = tokens[row].begin;
    var first = begin;
    var end = tokens[row].end;
    if params.tile_rows > 0u {
        first = row - (row - begin) % params.tile_rows;
        end = min(end - first, params.tile_rows) + first;
    }
    if row != first { return; }
    var largest = 0u;
    for (var r = first; r < end; r++) { largest = max(largest, maxima[r * params.blocks + block]); }
    for (var r = first; r < end; r++) { maxima[r * params.blocks + block] = largest; }
    if largest > 0u { atomicMin(&least[begin], largest); }
}
