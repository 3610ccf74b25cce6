// softmax(scale * q k^T) v of one head of one token in one pass over the KV cache with a running maximum and sum
// (online softmax, Milakov & Gimelshein 2018; Dao et al. 2022), over the positions that the token sees, or a part of
// them; grouped KV heads.
// Keys advance in blocks of WORKGROUP, one key per invocation; an invocation owns the quads of the output lane,
// lane + WORKGROUP, ...
const QUADS: u32 = (HEAD_DIM + 3u) / 4u;  // vec4 per head, in the caches too: heads are padded with zeros
const OWNED: u32 = (QUADS + WORKGROUP - 1u) / WORKGROUP;

// Of the positions of a part: the largest score, the sum of exp(score - largest), and the values weighted so.
struct Attended { largest: f32, sum: f32, acc: array<vec4<f32>, OWNED> }

var<workgroup> q_row: array<vec4<f32>, QUADS>;
var<workgroup> weights: array<f32, WORKGROUP>;
var<workgroup> place: vec3<u32>;  // sequence, first position, end: through workgroup memory, so that loops are uniform

fn q_element(first: u32, d: u32) -> f32 {
    if d >= HEAD_DIM { return 0.0; }
    return x[first + d] * bitcast<f32>(params.scale);
}

// Head h of token t over part `part` of `parts`, which are whole blocks; the last ones may have no positions.
fn attend(lane: u32, t: u32, h: u32, part: u32, parts: u32) -> Attended {
    let head = h / (params.heads / params.kv_heads);
    if lane == 0u {
        let seen = seen_by(t);
        let blocks = (seen.end - seen.first + WORKGROUP - 1u) / WORKGROUP;
        let share = (blocks + parts - 1u) / parts * WORKGROUP;
        let first = min(seen.first + part * share, seen.end);
        place = vec3<u32>(tokens[t].sequence, first, min(first + share, seen.end));
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
    return Attended(largest, sum, acc);
}
