// gemv_direct: gemv of one row of x for software drivers: y[n] = finish(sum_k x[k] W[n, k]).
// Partition: an invocation owns THREAD_N rows of W, its own_columns of y, four or twice four, and advances over all of K.
// In a gated product they are four rows of the gate and the same four of up.
// What costs there is loads (lib/direct.wgsl): an invocation loads one vec4 of a chunk of x and hands it round, and records
// of scales are loaded once for a run of chunks; the products of a chunk are scaled when they are summed.
// Precondition: the workgroup of 8 lies in one subgroup.
const_assert TILE_M == 1u && LANES == 1u && (THREAD_N == 4u || THREAD_N == 8u) && WORKGROUP == 8u;
const_assert HELD || (!HALF_CHUNKS && !HAS_MINIMUM);
const_assert !GATED || THREAD_N == 8u;
const FOUR: u32 = 4u * WORKGROUP;  // rows of W whose first four an invocation owns
const TILE: u32 = select(WORKGROUP * THREAD_N, FOUR, GATED);  // columns of y of a workgroup

struct Runs { a: Run, b: Run, c: Run, d: Run }

fn runs_at(n: vec4<u32>, run: u32, span: u32) -> Runs {
    return Runs(run_at(n.x, run, span), run_at(n.y, run, span), run_at(n.z, run, span), run_at(n.w, run, span));
}

fn x_chunk(own: vec4<f32>) -> Weights {
    return Weights(array<vec4<f32>, 8>(
        subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u), subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u),
        subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u), subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u)));
}

fn product(row: u32, chunk: u32, x: Weights) -> f32 {
    let w = values_at(row, chunk);
    return dot(w.v[0], x.v[0]) + dot(w.v[1], x.v[1]) + dot(w.v[2], x.v[2]) + dot(w.v[3], x.v[3])
        + dot(w.v[4], x.v[4]) + dot(w.v[5], x.v[5]) + dot(w.v[6], x.v[6]) + dot(w.v[7], x.v[7]);
}

// Sums of products with values of four rows of W, and the sum of x, as sums of products with weights: those of record
// number `record` of their runs.
fn scaled(s: vec4<f32>, x: f32, r: Runs, record: u32) -> vec4<f32> {
    let a = run_factors(r.a, record);
    let b = run_factors(r.b, record);
    let c = run_factors(r.c, record);
    let d = run_factors(r.d, record);
    let products = s * vec4<f32>(a.x, b.x, c.x, d.x) * vec4<f32>(a.y, b.y, c.y, d.y);
    if !HAS_MINIMUM { return products; }
    return products - x * vec4<f32>(run_minimum(r.a, record), run_minimum(r.b, record),
                                    run_minimum(r.c, record), run_minimum(r.d, record));
}

fn products(n: vec4<u32>, chunk: u32, x: Weights) -> vec4<f32> {
    return vec4<f32>(product(n.x, chunk, x), product(n.y, chunk, x), product(n.z, chunk, x), product(n.w, chunk, x));
}

struct Four { a: Held, b: Held, c: Held, d: Held }

fn four_at(n: vec4<u32>, chunk: u32, r: Runs, record: u32) -> Four {
    return Four(held_at(n.x, chunk, run_zero(r.a, record)), held_at(n.y, chunk, run_zero(r.b, record)),
                held_at(n.z, chunk, run_zero(r.c, record)), held_at(n.w, chunk, run_zero(r.d, record)));
}

fn quad_products(h: Four, i: u32, x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(held_quad(h.a, i), x), dot(held_quad(h.b, i), x), dot(held_quad(h.c, i), x), dot(held_quad(h.d, i), x));
}

// Sums over a part of a chunk: of the first and the last four rows of W, and of x.
struct Part { low: vec4<f32>, high: vec4<f32>, x: vec4<f32> }

// Advances over quad i.
fn advanced(p: Part, low: Four, high: Four, i: u32, x: vec4<f32>) -> Part {
    var q = p;
    q.low += quad_products(low, i, x);
    if THREAD_N == 8u { q.high += quad_products(high, i, x); }
    if HAS_MINIMUM { q.x += x; }
    return q;
}

// Sums with what exceptions of the matrix add to them.
fn whole_four(n: vec4<u32>, s: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(patched(0u, n.x, s.x), patched(0u, n.y, s.y), patched(0u, n.z, s.z), patched(0u, n.w, s.w));
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let first = folded(group, groups) * TILE + first_column(lane);
    let low = own_columns(first);
    let high = own_columns(first + select(FOUR, params.rows / 2u, GATED));
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    let span = run_span(chunks);
    prepare(lane);
    var s: vec4<f32>;
    var t: vec4<f32>;  // of the last four rows of eight
    for (var number = 0u; number * span < chunks; number++) {
        let begin = number * span;
        let end = min(begin + span, chunks);
        let of_low = runs_at(low, number, span);
        var of_high = of_low;
        if THREAD_N == 8u { of_high = runs_at(high, number, span); }
        let in_record = run_chunks();
        var left = in_record;
        var record = 0u;
        for (var chunk = begin; chunk < end; chunk++) {
            let own = x[chunk * 8u + lane];
            if !HELD {
                let v = x_chunk(own);
                s += scaled(products(low, chunk, v), 0.0, of_low, record);
                if THREAD_N == 8u { t += scaled(products(high, chunk, v), 0.0, of_high, record); }
            } else {
                let a = four_at(low, chunk, of_low, record);
                var b = a;
                if THREAD_N == 8u { b = four_at(high, chunk, of_high, record); }
                var p: Part;
                p = advanced(p, a, b, 0u, subgroupBroadcast(own, 0u));
                p = advanced(p, a, b, 1u, subgroupBroadcast(own, 1u));
                p = advanced(p, a, b, 2u, subgroupBroadcast(own, 2u));
                p = advanced(p, a, b, 3u, subgroupBroadcast(own, 3u));
                if HALF_CHUNKS {  // a record is half a chunk
                    let sum = p.x.x + p.x.y + p.x.z + p.x.w;
                    s += scaled(p.low, sum, of_low, record);
                    if THREAD_N == 8u { t += scaled(p.high, sum, of_high, record); }
                    p = Part();
                    record += 1u;
                }
                p = advanced(p, a, b, 4u, subgroupBroadcast(own, 4u));
                p = advanced(p, a, b, 5u, subgroupBroadcast(own, 5u));
                p = advanced(p, a, b, 6u, subgroupBroadcast(own, 6u));
                p = advanced(p, a, b, 7u, subgroupBroadcast(own, 7u));
                let sum = p.x.x + p.x.y + p.x.z + p.x.w;
                s += scaled(p.low, sum, of_low, record);
                if THREAD_N == 8u { t += scaled(p.high, sum, of_high, record); }
            }
            if RECORDS {
                left -= 1u;
                if left == 0u {
                    record += 1u;
                    left = in_record;
                }
            }
        }
    }
    if GATED {
        end_gated(0u, first, whole_four(low, s), whole_four(high, t));
        return;
    }
    end_row(0u, first, whole_four(low, s));
    if THREAD_N == 8u { end_row(0u, first + FOUR, whole_four(high, t)); }
}
