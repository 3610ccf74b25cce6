// rope: rotates pairs (i, i + half) of every head by position * inverse_frequency[i]; rotation holds
// (cos, sin) per position and pair, computed on the host. Half-rotated convention of Hugging Face.
// Partition: one invocation per pair.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let pairs = params.heads * params.half_dim;
    let at = folded(group, groups) * WORKGROUP + lane;
    let t = at / pairs;
    if t >= params.m { return; }
    let pair = at - t * pairs;
    let i = pair % params.half_dim;
    let column = (pair / params.half_dim) * 2u * params.half_dim + i;
    let r = rotation[tokens[t].position * params.half_dim + i];
    let source = t * params.x_stride + params.x_offset + column;
    let a = x[source];
    let b = x[source + params.half_dim];
    let destination = t * params.y_stride + column;
    y[destination] = a * r.x - b * r.y;
    y[destination + params.half_dim] = b * r.x + a * r.y;
}
