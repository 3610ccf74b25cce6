// attention: softmax(scale * q k^T) v in one pass over the KV cache with a running maximum and sum
// (online softmax, Milakov & Gimelshein 2018; Dao et al. 2022), causal, grouped KV heads.
// Partition: one workgroup per (token, head); keys advance in blocks of WORKGROUP, one key per invocation;
// then an invocation owns the output elements lane, lane + WORKGROUP, ...
const OWNED: u32 = (HEAD_DIM + WORKGROUP - 1u) / WORKGROUP;

var<workgroup> q_row: array<f32, HEAD_DIM>;
var<workgroup> weights: array<f32, WORKGROUP>;
var<workgroup> place: vec2<u32>;  // sequence, position: through workgroup memory, so that loops are uniform

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m * params.heads { return; }
    let t = row / params.heads;
    let h = row - t * params.heads;
    let head = h / (params.heads / params.kv_heads);
    if lane == 0u { place = vec2<u32>(tokens[t].sequence, tokens[t].position); }
    for (var d = lane; d < HEAD_DIM; d += WORKGROUP) {
        q_row[d] = x[t * params.x_stride + params.x_offset + h * HEAD_DIM + d] * bitcast<f32>(params.scale);
    }
    let at = workgroupUniformLoad(&place);
    let base = at.x * params.context;
    let keys = at.y + 1u;
    var largest = -3.0e38;
    var sum = 0.0;
    var acc: array<f32, OWNED>;
    for (var i = 0u; i < OWNED; i++) { acc[i] = 0.0; }
    for (var first = 0u; first < keys; first += WORKGROUP) {
        let j = first + lane;
        var score = -3.0e38;
        if j < keys {
            let k0 = ((base + j) * params.kv_heads + head) * HEAD_DIM;
            score = 0.0;
            for (var d = 0u; d < HEAD_DIM; d++) { score += q_row[d] * k_cache[k0 + d]; }
        }
        let block_largest = max(largest, workgroup_max(score, lane));
        let weight = select(0.0, exp(score - block_largest), j < keys);
        weights[lane] = weight;
        let correction = exp(largest - block_largest);
        sum = sum * correction + workgroup_sum(weight, lane);  // its barriers also publish weights
        largest = block_largest;
        let count = min(WORKGROUP, keys - first);
        for (var i = 0u; i < OWNED; i++) {
            let d = lane + i * WORKGROUP;
            if d < HEAD_DIM {
                var value = acc[i] * correction;
                for (var r = 0u; r < count; r++) {
                    value += weights[r] * v_cache[((base + first + r) * params.kv_heads + head) * HEAD_DIM + d];
                }
                acc[i] = value;
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < OWNED; i++) {
        let d = lane + i * WORKGROUP;
        if d < HEAD_DIM { y[t * params.y_stride + h * HEAD_DIM + d] = acc[i] / sum; }
    }
}
