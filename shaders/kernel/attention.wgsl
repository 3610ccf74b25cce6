// attention: softmax(scale * q k^T) v in one pass over the KV cache with a running maximum and sum
// (online softmax, Milakov & Gimelshein 2018; Dao et al. 2022), over the positions that the token sees; grouped KV heads.
// Partition: one workgroup per (token, head); keys advance in blocks of WORKGROUP, one key per invocation;
// then an invocation owns the quads of the output lane, lane + WORKGROUP, ...
const QUADS: u32 = (HEAD_DIM + 3u) / 4u;  // vec4 per head, in the caches too: heads are padded with zeros
const OWNED: u32 = (QUADS + WORKGROUP - 1u) / WORKGROUP;

var<workgroup> q_row: array<vec4<f32>, QUADS>;
var<workgroup> weights: array<f32, WORKGROUP>;
var<workgroup> place: vec3<u32>;  // sequence, first position, end: through workgroup memory, so that loops are uniform

fn q_element(first: u32, d: u32) -> f32 {
    if d >= HEAD_DIM { return 0.0; }
    return x[first + d] * bitcast<f32>(params.scale);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m * params.heads { return; }
    let t = row / params.heads;
    let h = row - t * params.heads;
    let head = h / (params.heads / params.kv_heads);
    if lane == 0u {
        let seen = seen_by(t);
        place = vec3<u32>(tokens[t].sequence, seen.first, seen.end);
    }
    let q0 = t * params.x_stride + params.x_offset + h * HEAD_DIM;
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        let d = 4u * i;
        q_row[i] = vec4<f32>(q_element(q0, d), q_element(q0, d + 1u), q_element(q0, d + 2u), q_element(q0, d + 3u));
    }
    let at = workgroupUniformLoad(&place);  // its barriers also publish q_row
    let base = at.x * params.context;
    var largest = -3.0e38;
    var sum = 0.0;
    var acc: array<vec4<f32>, OWNED>;
    for (var i = 0u; i < OWNED; i++) { acc[i] = vec4<f32>(); }
    for (var first = at.y; first < at.z; first += WORKGROUP) {
        let j = first + lane;
        var score = -3.0e38;
        if j < at.z {
            let k0 = ((base + j) * params.kv_heads + head) * QUADS;
            score = 0.0;
            for (var i = 0u; i < QUADS; i++) { score += dot(q_row[i], k_cache[k0 + i]); }
        }
        let block_largest = max(largest, workgroup_max(score, lane));
        let weight = select(0.0, exp(score - block_largest), j < at.z);
        weights[lane] = weight;
        let correction = exp(largest - block_largest);
        sum = sum * correction + workgroup_sum(weight, lane);  // its barriers also publish weights
        largest = block_largest;
        let count = min(WORKGROUP, at.z - first);
        for (var i = 0u; i < OWNED; i++) {
            let quad = lane + i * WORKGROUP;
            if quad < QUADS {
                var value = acc[i] * correction;
                var v0 = ((base + first) * params.kv_heads + head) * QUADS + quad;
                for (var r = 0u; r < count; r++) {
                    value += weights[r] * v_cache[v0];
                    v0 += params.kv_heads * QUADS;
                }
                acc[i] = value;
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < OWNED; i++) {
        let quad = lane + i * WORKGROUP;
        for (var e = 0u; e < 4u; e++) {
            let d = 4u * quad + e;
            if d < HEAD_DIM { y[t * params.y_stride + h * HEAD_DIM + d] = acc[i][e] / sum; }
        }
    }
}
