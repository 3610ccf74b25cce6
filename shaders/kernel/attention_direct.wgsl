// attention_direct: attention for software drivers, where a workgroup is one CPU thread and a load costs as much as tens
// of products: 8 queries share every key and value that is loaded; no workgroup memory, no barriers.
// Partition: a workgroup owns 8 consecutive rows of the batch, one per invocation, and HEADS heads, one or two, that share
// keys and values. Keys advance in blocks of 8: invocation i loads key and value i of the block and hands them round, and
// every invocation takes them into the softmax and the sum of its own row, which needs no word from the others. Rows of
// different sequences take turns: in the turn of one, the others see no key.
// A head is spans of 32 elements, at most 8 of them, written out: a private array with a run-time index costs a software
// driver more than the arithmetic.
// Preconditions: HEADS divides the heads that share keys and is 1 above a HEAD_DIM of 128; HEAD_DIM is a multiple of 8, strides and offsets are of 4. Keys a
// row does not see count by a weight of 0, so values up to the last position of its sequence in the tile must be finite.
const_assert WORKGROUP == 8u && TILE_M == 8u && HEAD_DIM % 8u == 0u && HEAD_DIM <= 256u;
const_assert HEADS == 1u || (HEADS == 2u && HEAD_DIM <= 128u);
const TWO: bool = HEADS == 2u;
const QUADS: u32 = HEAD_DIM / 4u;
const NONE: u32 = 0xffffffffu;

struct Span { v: array<vec4<f32>, 8> }
struct Numbers { low: vec4<f32>, high: vec4<f32> }  // one per key of the block
struct Row { a: Span, b: Span, c: Span, d: Span, e: Span, f: Span, g: Span, h: Span }  // of this invocation's row
struct Softmax { top: f32, sum: f32, correction: f32, weights: Numbers }

// Quads of a span that a head has from quad `first` on.
fn slots(first: u32) -> u32 { return min(max(QUADS, first) - first, 8u); }

// Quad `quad` of the query of row t; past the head 0.
fn query(at: u32, quad: u32) -> vec4<f32> {
    if quad >= QUADS { return vec4<f32>(); }
    return x_at(at + quad) * bitcast<f32>(params.scale);
}

fn query_span(at: u32, first: u32) -> Span {
    return Span(array<vec4<f32>, 8>(query(at, first), query(at, first + 1u), query(at, first + 2u), query(at, first + 3u),
                                    query(at, first + 4u), query(at, first + 5u), query(at, first + 6u), query(at, first + 7u)));
}

fn query_row(t: u32, h: u32) -> Row {
    let at = (t * params.x_stride + params.x_offset) / 4u + h * QUADS;
    return Row(query_span(at, 0u), query_span(at, 8u), query_span(at, 16u), query_span(at, 24u),
               query_span(at, 32u), query_span(at, 40u), query_span(at, 48u), query_span(at, 56u));
}

fn key_pair(at: u32, first: u32, i: u32) -> Pair {
    if i >= slots(first) { return Pair(); }
    return k_cache_pair((at + first + i) / 2u);
}

fn value_pair(at: u32, first: u32, i: u32) -> Pair {
    if i >= slots(first) { return Pair(); }
    return v_cache_pair((at + first + i) / 2u);
}

// Eight quads from `first` on of the key at quad `at`.
fn key_span(at: u32, first: u32) -> Span {
    let a = key_pair(at, first, 0u);
    let b = key_pair(at, first, 2u);
    let c = key_pair(at, first, 4u);
    let d = key_pair(at, first, 6u);
    return Span(array<vec4<f32>, 8>(a.low, a.high, b.low, b.high, c.low, c.high, d.low, d.high));
}

fn value_span(at: u32, first: u32) -> Span {
    let a = value_pair(at, first, 0u);
    let b = value_pair(at, first, 2u);
    let c = value_pair(at, first, 4u);
    let d = value_pair(at, first, 6u);
    return Span(array<vec4<f32>, 8>(a.low, a.high, b.low, b.high, c.low, c.high, d.low, d.high));
}

// Adds what a quad contributes to the scores of a row; k is that of this invocation's key.
fn scored_quad(s: Numbers, q: vec4<f32>, k: vec4<f32>) -> Numbers {
    return Numbers(
        s.low + vec4<f32>(dot(q, subgroupBroadcast(k, 0u)), dot(q, subgroupBroadcast(k, 1u)),
                          dot(q, subgroupBroadcast(k, 2u)), dot(q, subgroupBroadcast(k, 3u))),
        s.high + vec4<f32>(dot(q, subgroupBroadcast(k, 4u)), dot(q, subgroupBroadcast(k, 5u)),
                           dot(q, subgroupBroadcast(k, 6u)), dot(q, subgroupBroadcast(k, 7u))));
}

// The same of quads i and i + 1 of a span that has `count`. Quads are taken out of spans by constants only: by what becomes
// one in a call, they are copied to memory at each, which takes drivers seconds to compile away.
fn scored(s: Numbers, i: u32, count: u32, q: vec4<f32>, k: vec4<f32>, q1: vec4<f32>, k1: vec4<f32>) -> Numbers {
    if i >= count { return s; }
    return scored_quad(scored_quad(s, q, k), q1, k1);
}

// The same of a span, which has quads from `first` on.
fn scored_span(s: Numbers, q: Span, k: Span, first: u32) -> Numbers {
    let n = slots(first);
    var t = scored(s, 0u, n, q.v[0], k.v[0], q.v[1], k.v[1]);
    t = scored(t, 2u, n, q.v[2], k.v[2], q.v[3], k.v[3]);
    t = scored(t, 4u, n, q.v[4], k.v[4], q.v[5], k.v[5]);
    return scored(t, 6u, n, q.v[6], k.v[6], q.v[7], k.v[7]);
}

// Adds the values of the block to quad i of a row's sum, of a span that has `count`; v is that of this invocation's value.
fn weighted(sum: vec4<f32>, s: Softmax, v: vec4<f32>, i: u32, count: u32) -> vec4<f32> {
    if i >= count { return vec4<f32>(); }
    let w = s.weights;
    return sum * s.correction
        + w.low.x * subgroupBroadcast(v, 0u) + w.low.y * subgroupBroadcast(v, 1u)
        + w.low.z * subgroupBroadcast(v, 2u) + w.low.w * subgroupBroadcast(v, 3u)
        + w.high.x * subgroupBroadcast(v, 4u) + w.high.y * subgroupBroadcast(v, 5u)
        + w.high.z * subgroupBroadcast(v, 6u) + w.high.w * subgroupBroadcast(v, 7u);
}

fn weighted_span(a: Span, s: Softmax, v: Span, first: u32) -> Span {
    let n = slots(first);
    return Span(array<vec4<f32>, 8>(weighted(a.v[0], s, v.v[0], 0u, n), weighted(a.v[1], s, v.v[1], 1u, n),
                                    weighted(a.v[2], s, v.v[2], 2u, n), weighted(a.v[3], s, v.v[3], 3u, n),
                                    weighted(a.v[4], s, v.v[4], 4u, n), weighted(a.v[5], s, v.v[5], 5u, n),
                                    weighted(a.v[6], s, v.v[6], 6u, n), weighted(a.v[7], s, v.v[7], 7u, n)));
}

fn larger(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return select(a, b, a < b); }

// Takes in the scores of a block; `low` and `high` say which keys this invocation's row sees.
fn softened(old: Softmax, scores: Numbers, low: vec4<bool>, high: vec4<bool>) -> Softmax {
    let s = Numbers(select(vec4<f32>(-3.0e38), scores.low, low), select(vec4<f32>(-3.0e38), scores.high, high));
    let four = larger(s.low, s.high);
    let two = select(four.xy, four.zw, four.xy < four.zw);
    let top = max(old.top, max(two.x, two.y));
    let weights = Numbers(select(vec4<f32>(), exp(s.low - top), low), select(vec4<f32>(), exp(s.high - top), high));
    let correction = exp(old.top - top);
    let sums = weights.low + weights.high;
    return Softmax(top, old.sum * correction + ((sums.x + sums.y) + (sums.z + sums.w)), correction, weights);
}

fn store(at: u32, quad: u32, sum: vec4<f32>, factor: f32) {
    if quad < QUADS { y_put(at + quad, sum * factor); }
}

fn store_span(at: u32, first: u32, s: Span, factor: f32) {
    store(at, first, s.v[0], factor);
    store(at, first + 1u, s.v[1], factor);
    store(at, first + 2u, s.v[2], factor);
    store(at, first + 3u, s.v[3], factor);
    store(at, first + 4u, s.v[4], factor);
    store(at, first + 5u, s.v[5], factor);
    store(at, first + 6u, s.v[6], factor);
    store(at, first + 7u, s.v[7], factor);
}

fn store_row(t: u32, h: u32, r: Row, factor: f32) {
    let at = t * params.y_stride / 4u + h * QUADS;
    store_span(at, 0u, r.a, factor);
    store_span(at, 8u, r.b, factor);
    store_span(at, 16u, r.c, factor);
    store_span(at, 24u, r.d, factor);
    store_span(at, 32u, r.e, factor);
    store_span(at, 40u, r.f, factor);
    store_span(at, 48u, r.g, factor);
    store_span(at, 56u, r.h, factor);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tile = folded(group, groups);
    let t = (tile / (params.heads / HEADS)) * TILE_M;
    let h = tile % (params.heads / HEADS) * HEADS;
    if t >= params.m { return; }
    let head = h / (params.heads / params.kv_heads);
    let own = min(t + lane, params.m - 1u);  // a row past the end repeats the last one and is never stored
    let seen = seen_by(own);
    var pending = tokens[own].sequence;
    let q = query_row(own, h);
    var q2: Row;  // of the second of two heads, as s2 and acc2
    if TWO { q2 = query_row(own, h + 1u); }
    var s = Softmax(-3.0e38, 0.0, 0.0, Numbers());
    var s2 = s;
    var acc: Row;
    var acc2: Row;
    for (var turn = 0u; turn < 8u; turn++) {
        let sequence = subgroupMin(pending);
        if sequence == NONE { break; }
        let takes = pending == sequence;
        let begin = select(NONE, seen.first, takes);
        let end = select(0u, seen.end, takes);
        pending = select(pending, NONE, takes);
        let keys = subgroupMax(end);
        let base = sequence * params.context;
        for (var first = subgroupMin(begin); first < keys; first += 8u) {
            let at = ((base + min(first + lane, keys - 1u)) * params.kv_heads + head) * QUADS;
            var scores = Numbers();
            var scores2 = Numbers();
            let a = key_span(at, 0u);
            scores = scored_span(scores, q.a, a, 0u);
            if TWO { scores2 = scored_span(scores2, q2.a, a, 0u); }
            if QUADS > 8u {
                let b = key_span(at, 8u);
                scores = scored_span(scores, q.b, b, 8u);
                if TWO { scores2 = scored_span(scores2, q2.b, b, 8u); }
            }
            if QUADS > 16u {
                let c = key_span(at, 16u);
                scores = scored_span(scores, q.c, c, 16u);
                if TWO { scores2 = scored_span(scores2, q2.c, c, 16u); }
            }
            if QUADS > 24u {
                let d = key_span(at, 24u);
                scores = scored_span(scores, q.d, d, 24u);
                if TWO { scores2 = scored_span(scores2, q2.d, d, 24u); }
            }
            if QUADS > 32u { scores = scored_span(scores, q.e, key_span(at, 32u), 32u); }
            if QUADS > 40u { scores = scored_span(scores, q.f, key_span(at, 40u), 40u); }
            if QUADS > 48u { scores = scored_span(scores, q.g, key_span(at, 48u), 48u); }
            if QUADS > 56u { scores = scored_span(scores, q.h, key_span(at, 56u), 56u); }
            let j = vec4<u32>(first, first + 1u, first + 2u, first + 3u);
            let j4 = j + vec4<u32>(4u);
            let low = (j >= vec4<u32>(begin)) & (j < vec4<u32>(end));
            let high = (j4 >= vec4<u32>(begin)) & (j4 < vec4<u32>(end));
            s = softened(s, scores, low, high);
            if TWO { s2 = softened(s2, scores2, low, high); }
            let va = value_span(at, 0u);
            acc.a = weighted_span(acc.a, s, va, 0u);
            if TWO { acc2.a = weighted_span(acc2.a, s2, va, 0u); }
            if QUADS > 8u {
                let vb = value_span(at, 8u);
                acc.b = weighted_span(acc.b, s, vb, 8u);
                if TWO { acc2.b = weighted_span(acc2.b, s2, vb, 8u); }
            }
            if QUADS > 16u {
                let vc = value_span(at, 16u);
                acc.c = weighted_span(acc.c, s, vc, 16u);
                if TWO { acc2.c = weighted_span(acc2.c, s2, vc, 16u); }
            }
            if QUADS > 24u {
                let vd = value_span(at, 24u);
                acc.d = weighted_span(acc.d, s, vd, 24u);
                if TWO { acc2.d = weighted_span(acc2.d, s2, vd, 24u); }
            }
            if QUADS > 32u { acc.e = weighted_span(acc.e, s, value_span(at, 32u), 32u); }
            if QUADS > 40u { acc.f = weighted_span(acc.f, s, value_span(at, 40u), 40u); }
            if QUADS > 48u { acc.g = weighted_span(acc.g, s, value_span(at, 48u), 48u); }
            if QUADS > 56u { acc.h = weighted_span(acc.h, s, value_span(at, 56u), 56u); }
        }
    }
    if t + lane >= params.m { return; }
    store_row(own, h, acc, 1.0 / s.sum);
    if TWO { store_row(own, h + 1u, acc2, 1.0 / s2.sum); }
}
