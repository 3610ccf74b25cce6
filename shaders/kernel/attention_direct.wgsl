// attention_direct: attention for software drivers, where a workgroup is one CPU thread and a load costs as much as tens
// of products: 8 queries share every key and value that is loaded; no workgroup memory, no barriers.
// Partition: a workgroup owns 8 consecutive rows of the batch and HEADS heads, one or two, that share keys and values. Keys
// advance in blocks of 8, one key per invocation; then an invocation owns the output quads lane, lane + 8, ... of all 8
// rows. Rows of different sequences take turns: in the turn of one, the others see no key.
// Precondition: HEADS divides the heads that share keys.
// Preconditions: HEAD_DIM is a multiple of 8, strides and offsets are of 4. Keys a row does not see count by a weight of
// 0, so values up to the last position of its sequence in the tile must be finite.
const_assert WORKGROUP == 8u && TILE_M == 8u && HEAD_DIM % 8u == 0u && (HEADS == 1u || HEADS == 2u);
const TWO: bool = HEADS == 2u;
const QUADS: u32 = HEAD_DIM / 4u;
const SPANS: u32 = (QUADS + 7u) / 8u;  // of 8 quads, one per invocation
const SLOTS: u32 = min(QUADS, 8u);
const NONE: u32 = 0xffffffffu;

struct Numbers { low: vec4<f32>, high: vec4<f32> }  // one per row of the tile
struct Limits { low: vec4<u32>, high: vec4<u32> }   // likewise
struct Quads { v: array<vec4<f32>, 8> }             // one quad per row of the tile
struct Keys { a: Pair, b: Pair, c: Pair, d: Pair }  // eight quads of this invocation's key
struct Softmax { top: Numbers, sum: Numbers, weights: Numbers, correction: Numbers }  // sum: of this invocation's keys

// The same number of every row, each from the invocation that holds it.
fn of_rows(own: u32) -> Limits {
    return Limits(vec4<u32>(subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u),
                            subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u)),
                  vec4<u32>(subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u),
                            subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u)));
}

// This invocation's quad of every query; past the head 0.
fn query(t: u32, h: u32, quad: u32) -> vec4<f32> {
    let first = (min(t, params.m - 1u) * params.x_stride + params.x_offset) / 4u + h * QUADS;
    let q = x_at(first + min(quad, QUADS - 1u)) * bitcast<f32>(params.scale);
    return select(vec4<f32>(), q, quad < QUADS);
}

fn queries(t: u32, h: u32, quad: u32) -> Quads {
    return Quads(array<vec4<f32>, 8>(query(t, h, quad), query(t + 1u, h, quad), query(t + 2u, h, quad),
                                     query(t + 3u, h, quad), query(t + 4u, h, quad), query(t + 5u, h, quad),
                                     query(t + 6u, h, quad), query(t + 7u, h, quad)));
}

// Adds what quad i of the span contributes to the scores of this invocation's key.
fn scored_quad(s: Numbers, q: Quads, k: vec4<f32>, i: u32) -> Numbers {
    return Numbers(
        s.low + vec4<f32>(dot(spread(q.v[0], i), k), dot(spread(q.v[1], i), k),
                          dot(spread(q.v[2], i), k), dot(spread(q.v[3], i), k)),
        s.high + vec4<f32>(dot(spread(q.v[4], i), k), dot(spread(q.v[5], i), k),
                           dot(spread(q.v[6], i), k), dot(spread(q.v[7], i), k)));
}

// Quads `quad` and the next one of the key at k0; those past the head meet queries of 0.
fn key_pair(k0: u32, quad: u32) -> Pair { return k_cache_pair((k0 + min(quad, QUADS - 2u)) / 2u); }

fn keys_at(k0: u32, first: u32) -> Keys {
    var k: Keys;
    k.a = key_pair(k0, first);
    if SLOTS > 2u { k.b = key_pair(k0, first + 2u); }
    if SLOTS > 4u { k.c = key_pair(k0, first + 4u); }
    if SLOTS > 6u { k.d = key_pair(k0, first + 6u); }
    return k;
}

fn scored(s: Numbers, q: Quads, k: Pair, i: u32) -> Numbers {
    if i >= SLOTS { return s; }
    return scored_quad(scored_quad(s, q, k.low, i), q, k.high, i + 1u);
}

fn scored_span(sums: Numbers, q: Quads, k: Keys) -> Numbers {
    return scored(scored(scored(scored(sums, q, k.a, 0u), q, k.b, 2u), q, k.c, 4u), q, k.d, 6u);
}

// Adds value `key` of the block, whose quad of this invocation is v, by the weight it has for every row.
fn weighted(acc: Quads, weights: Numbers, v: vec4<f32>, key: u32) -> Quads {
    let low = spread(weights.low, key);
    let high = spread(weights.high, key);
    return Quads(array<vec4<f32>, 8>(
        acc.v[0] + low.x * v, acc.v[1] + low.y * v, acc.v[2] + low.z * v, acc.v[3] + low.w * v,
        acc.v[4] + high.x * v, acc.v[5] + high.y * v, acc.v[6] + high.z * v, acc.v[7] + high.w * v));
}

// Eight quads from `first_quad` on of two values: invocations 0 to 3 hold pairs of key `first + key`, the others of the
// next one; past the last key the last one, by weight 0, past the head its last pair.
fn two_values(base: u32, first: u32, key: u32, last: u32, head: u32, first_quad: u32, lane: u32) -> Pair {
    let own = base + min(first + key + lane / 4u, last);
    let pair = min(first_quad / 2u + lane % 4u, QUADS / 2u - 1u);
    return v_cache_pair((own * params.kv_heads + head) * (QUADS / 2u) + pair);
}

// The quad of this invocation of the first (half 0) or second value.
fn own_quad(v: Pair, half: u32, lane: u32) -> vec4<f32> {
    let holder = 4u * half + lane / 2u;
    return select(subgroupShuffle(v.low, holder), subgroupShuffle(v.high, holder), lane % 2u == 1u);
}

// This invocation's quad of every value of the block.
fn values_of(base: u32, first: u32, last: u32, head: u32, first_quad: u32, lane: u32) -> Quads {
    let a = two_values(base, first, 0u, last, head, first_quad, lane);
    let b = two_values(base, first, 2u, last, head, first_quad, lane);
    let c = two_values(base, first, 4u, last, head, first_quad, lane);
    let d = two_values(base, first, 6u, last, head, first_quad, lane);
    return Quads(array<vec4<f32>, 8>(own_quad(a, 0u, lane), own_quad(a, 1u, lane), own_quad(b, 0u, lane), own_quad(b, 1u, lane),
                                     own_quad(c, 0u, lane), own_quad(c, 1u, lane), own_quad(d, 0u, lane), own_quad(d, 1u, lane)));
}

fn weighted_block(sums: Quads, s: Softmax, v: Quads) -> Quads {
    let c = s.correction;
    var acc = Quads(array<vec4<f32>, 8>(
        sums.v[0] * c.low.x, sums.v[1] * c.low.y, sums.v[2] * c.low.z, sums.v[3] * c.low.w,
        sums.v[4] * c.high.x, sums.v[5] * c.high.y, sums.v[6] * c.high.z, sums.v[7] * c.high.w));
    acc = weighted(weighted(acc, s.weights, v.v[0], 0u), s.weights, v.v[1], 1u);
    acc = weighted(weighted(acc, s.weights, v.v[2], 2u), s.weights, v.v[3], 3u);
    acc = weighted(weighted(acc, s.weights, v.v[4], 4u), s.weights, v.v[5], 5u);
    return weighted(weighted(acc, s.weights, v.v[6], 6u), s.weights, v.v[7], 7u);
}

// Takes in the scores of a block; `low` and `high` say which rows see this invocation's key.
fn softened(old: Softmax, scores: Numbers, low: vec4<bool>, high: vec4<bool>) -> Softmax {
    let s = Numbers(select(vec4<f32>(-3.0e38), scores.low, low), select(vec4<f32>(-3.0e38), scores.high, high));
    let top = Numbers(max(old.top.low, largest_of(s.low)), max(old.top.high, largest_of(s.high)));
    let weights = Numbers(select(vec4<f32>(), exp(s.low - top.low), low), select(vec4<f32>(), exp(s.high - top.high), high));
    let correction = Numbers(exp(old.top.low - top.low), exp(old.top.high - top.high));
    let sum = Numbers(old.sum.low * correction.low + weights.low, old.sum.high * correction.high + weights.high);
    return Softmax(top, sum, weights, correction);
}

fn unseen() -> Softmax {
    var s: Softmax;
    s.top = Numbers(vec4<f32>(-3.0e38), vec4<f32>(-3.0e38));
    return s;
}

// Largest and sum over the invocations: eight broadcasts are a third of a subgroup operation there.
fn largest_of(v: vec4<f32>) -> vec4<f32> {
    return max(max(max(spread(v, 0u), spread(v, 1u)), max(spread(v, 2u), spread(v, 3u))),
               max(max(spread(v, 4u), spread(v, 5u)), max(spread(v, 6u), spread(v, 7u))));
}

fn sum_of(v: vec4<f32>) -> vec4<f32> {
    return ((spread(v, 0u) + spread(v, 1u)) + (spread(v, 2u) + spread(v, 3u)))
         + ((spread(v, 4u) + spread(v, 5u)) + (spread(v, 6u) + spread(v, 7u)));
}

fn store(t: u32, h: u32, quad: u32, result: vec4<f32>) {
    if t < params.m && quad < QUADS { y_put(t * params.y_stride / 4u + h * QUADS + quad, result); }
}

fn store_rows(t: u32, h: u32, quad: u32, acc: Quads, factor: Numbers) {
    store(t, h, quad, acc.v[0] * factor.low.x);
    store(t + 1u, h, quad, acc.v[1] * factor.low.y);
    store(t + 2u, h, quad, acc.v[2] * factor.low.z);
    store(t + 3u, h, quad, acc.v[3] * factor.low.w);
    store(t + 4u, h, quad, acc.v[4] * factor.high.x);
    store(t + 5u, h, quad, acc.v[5] * factor.high.y);
    store(t + 6u, h, quad, acc.v[6] * factor.high.z);
    store(t + 7u, h, quad, acc.v[7] * factor.high.w);
}

fn reciprocals(sum: Numbers) -> Numbers { return Numbers(1.0 / sum_of(sum.low), 1.0 / sum_of(sum.high)); }

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tile = folded(group, groups);
    let t = (tile / (params.heads / HEADS)) * TILE_M;
    let h = tile % (params.heads / HEADS) * HEADS;
    if t >= params.m { return; }
    let head = h / (params.heads / params.kv_heads);
    let own = min(t + lane, params.m - 1u);  // a row past the end repeats the last one and is never stored
    let own_seen = seen_by(own);
    var pending = tokens[own].sequence;
    let q = queries(t, h, lane);
    var q2: Quads;  // of the second of two heads, as s2 and acc2
    if TWO { q2 = queries(t, h + 1u, lane); }
    var s = unseen();
    var s2 = unseen();
    var acc: array<Quads, SPANS>;
    var acc2: array<Quads, select(1u, SPANS, TWO)>;
    for (var turn = 0u; turn < 8u; turn++) {
        let sequence = subgroupMin(pending);
        if sequence == NONE { break; }
        let takes = pending == sequence;
        let begin = select(NONE, own_seen.first, takes);
        let end = select(0u, own_seen.end, takes);
        pending = select(pending, NONE, takes);
        let begins = of_rows(begin);
        let ends = of_rows(end);
        let keys = subgroupMax(end);
        let base = sequence * params.context;
        for (var first = subgroupMin(begin); first < keys; first += 8u) {
            let j = first + lane;
            let k0 = ((base + min(j, keys - 1u)) * params.kv_heads + head) * QUADS;
            var scores = Numbers();
            var scores2 = Numbers();
            if SPANS == 1u {
                let k = keys_at(k0, 0u);
                scores = scored_span(scores, q, k);
                if TWO { scores2 = scored_span(scores2, q2, k); }
            } else {
                for (var i = 0u; i < SPANS; i++) {
                    let k = keys_at(k0, 8u * i);
                    scores = scored_span(scores, queries(t, h, 8u * i + lane), k);
                    if TWO { scores2 = scored_span(scores2, queries(t, h + 1u, 8u * i + lane), k); }
                }
            }
            let low = (vec4<u32>(j) >= begins.low) & (vec4<u32>(j) < ends.low);
            let high = (vec4<u32>(j) >= begins.high) & (vec4<u32>(j) < ends.high);
            s = softened(s, scores, low, high);
            if TWO { s2 = softened(s2, scores2, low, high); }
            if SPANS == 1u {
                let v = values_of(base, first, keys - 1u, head, 0u, lane);
                acc[0] = weighted_block(acc[0], s, v);
                if TWO { acc2[0] = weighted_block(acc2[0], s2, v); }
            } else {
                for (var i = 0u; i < SPANS; i++) {
                    let v = values_of(base, first, keys - 1u, head, 8u * i, lane);
                    acc[i] = weighted_block(acc[i], s, v);
                    if TWO { acc2[i] = weighted_block(acc2[i], s2, v); }
                }
            }
        }
    }
    let factor = reciprocals(s.sum);
    for (var i = 0u; i < SPANS; i++) { store_rows(t, h, 8u * i + lane, acc[i], factor); }
    if TWO {
        let factor2 = reciprocals(s2.sum);
        for (var i = 0u; i < SPANS; i++) { store_rows(t, h + 1u, 8u * i + lane, acc2[i], factor2); }
    }
}
