// attention_direct: attention for software drivers, where a workgroup is one CPU thread and a load costs as much as tens
// of products: 8 queries share every key and value that is loaded; no workgroup memory, no barriers.
// Partition: a workgroup owns 8 consecutive rows of the batch and one head. Keys advance in blocks of 8, one key per
// invocation; then an invocation owns the output quads lane, lane + 8, ... of all 8 rows. Rows of different sequences
// take turns: in the turn of one, the others see no key.
// Preconditions: HEAD_DIM is a multiple of 8, strides and offsets are of 4. Keys a row does not see count by a weight of
// 0, so values up to the last position of its sequence in the tile must be finite.
const_assert WORKGROUP == 8u && TILE_M == 8u && HEAD_DIM % 8u == 0u;
const QUADS: u32 = HEAD_DIM / 4u;
const SPANS: u32 = (QUADS + 7u) / 8u;  // of 8 quads, one per invocation
const SLOTS: u32 = min(QUADS, 8u);
const NONE: u32 = 0xffffffffu;

struct Numbers { low: vec4<f32>, high: vec4<f32> }  // one per row of the tile
struct Limits { low: vec4<u32>, high: vec4<u32> }   // likewise
struct Quads { v: array<vec4<f32>, 8> }             // one quad per row of the tile

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
    let q = x[first + min(quad, QUADS - 1u)] * bitcast<f32>(params.scale);
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

// Quads i and i + 1; those past the head meet queries of 0.
fn scored(s: Numbers, q: Quads, k0: u32, first: u32, i: u32) -> Numbers {
    if i >= SLOTS { return s; }
    let k = k_cache_pair((k0 + min(first + i, QUADS - 2u)) / 2u);
    return scored_quad(scored_quad(s, q, k.low, i), q, k.high, i + 1u);
}

fn scored_span(sums: Numbers, q: Quads, k0: u32, first: u32) -> Numbers {
    var s = scored(sums, q, k0, first, 0u);
    s = scored(s, q, k0, first, 2u);
    s = scored(s, q, k0, first, 4u);
    return scored(s, q, k0, first, 6u);
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

fn weighted_block(sums: Quads, c: Numbers, w: Numbers, base: u32, first: u32, last: u32, head: u32, first_quad: u32,
                  lane: u32) -> Quads {
    var acc = Quads(array<vec4<f32>, 8>(
        sums.v[0] * c.low.x, sums.v[1] * c.low.y, sums.v[2] * c.low.z, sums.v[3] * c.low.w,
        sums.v[4] * c.high.x, sums.v[5] * c.high.y, sums.v[6] * c.high.z, sums.v[7] * c.high.w));
    var v = two_values(base, first, 0u, last, head, first_quad, lane);
    acc = weighted(weighted(acc, w, own_quad(v, 0u, lane), 0u), w, own_quad(v, 1u, lane), 1u);
    v = two_values(base, first, 2u, last, head, first_quad, lane);
    acc = weighted(weighted(acc, w, own_quad(v, 0u, lane), 2u), w, own_quad(v, 1u, lane), 3u);
    v = two_values(base, first, 4u, last, head, first_quad, lane);
    acc = weighted(weighted(acc, w, own_quad(v, 0u, lane), 4u), w, own_quad(v, 1u, lane), 5u);
    v = two_values(base, first, 6u, last, head, first_quad, lane);
    return weighted(weighted(acc, w, own_quad(v, 0u, lane), 6u), w, own_quad(v, 1u, lane), 7u);
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
    if t < params.m && quad < QUADS { y[t * params.y_stride / 4u + h * QUADS + quad] = result; }
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    let t = (row / params.heads) * TILE_M;
    let h = row % params.heads;
    if t >= params.m { return; }
    let head = h / (params.heads / params.kv_heads);
    let own = min(t + lane, params.m - 1u);  // a row past the end repeats the last one and is never stored
    let own_seen = seen_by(own);
    var pending = tokens[own].sequence;
    let q = queries(t, h, lane);
    var top = Numbers(vec4<f32>(-3.0e38), vec4<f32>(-3.0e38));
    var sum = Numbers();  // of the weights of this invocation's keys
    var acc: array<Quads, SPANS>;
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
            var s = Numbers();
            if SPANS == 1u {
                s = scored_span(s, q, k0, 0u);
            } else {
                for (var i = 0u; i < SPANS; i++) { s = scored_span(s, queries(t, h, 8u * i + lane), k0, 8u * i); }
            }
            let low = (vec4<u32>(j) >= begins.low) & (vec4<u32>(j) < ends.low);
            let high = (vec4<u32>(j) >= begins.high) & (vec4<u32>(j) < ends.high);
            s = Numbers(select(vec4<f32>(-3.0e38), s.low, low), select(vec4<f32>(-3.0e38), s.high, high));
            let now = Numbers(max(top.low, largest_of(s.low)), max(top.high, largest_of(s.high)));
            let weights = Numbers(select(vec4<f32>(), exp(s.low - now.low), low),
                                  select(vec4<f32>(), exp(s.high - now.high), high));
            let correction = Numbers(exp(top.low - now.low), exp(top.high - now.high));
            sum = Numbers(sum.low * correction.low + weights.low, sum.high * correction.high + weights.high);
            top = now;
            if SPANS == 1u {
                acc[0] = weighted_block(acc[0], correction, weights, base, first, keys - 1u, head, 0u, lane);
            } else {
                for (var i = 0u; i < SPANS; i++) {
                    acc[i] = weighted_block(acc[i], correction, weights, base, first, keys - 1u, head, 8u * i, lane);
                }
            }
        }
    }
    let factor = Numbers(1.0 / sum_of(sum.low), 1.0 / sum_of(sum.high));
    for (var i = 0u; i < SPANS; i++) {
        let quad = 8u * i + lane;
        store(t, h, quad, acc[i].v[0] * factor.low.x);
        store(t + 1u, h, quad, acc[i].v[1] * factor.low.y);
        store(t + 2u, h, quad, acc[i].v[2] * factor.low.z);
        store(t + 3u, h, quad, acc[i].v[3] * factor.low.w);
        store(t + 4u, h, quad, acc[i].v[4] * factor.high.x);
        store(t + 5u, h, quad, acc[i].v[5] * factor.high.y);
        store(t + 6u, h, quad, acc[i].v[6] * factor.high.z);
        store(t + 7u, h, quad, acc[i].v[7] * factor.high.w);
    }
}
