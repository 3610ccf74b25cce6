// gemv_direct: gemv of one row of x for software drivers: y[n] = finish(sum_k x[k] W[n, k]).
// Partition: an invocation owns THREAD_N rows of W, its own_columns of y, four or twice four, and advances over all of K.
// What costs there is loads (lib/direct.wgsl): an invocation loads one vec4 of a chunk of x and hands it round, and records
// of scales are loaded once for a run of chunks; the products of a chunk are scaled when they are summed.
// Precondition: the workgroup of 8 lies in one subgroup.
const_assert TILE_M == 1u && LANES == 1u && (THREAD_N == 4u || THREAD_N == 8u) && WORKGROUP == 8u;
const FOUR: u32 = 4u * WORKGROUP;  // rows of W whose first four an invocation owns

struct Runs { a: Run, b: Run, c: Run, d: Run }

fn runs_at(n: vec4<u32>, run: u32, span: u32) -> Runs {
    return Runs(run_at(n.x, run, span), run_at(n.y, run, span), run_at(n.z, run, span), run_at(n.w, run, span));
}

fn x_chunk(own: vec4<f32>) -> Weights {
    return Weights(array<vec4<f32>, 8>(
        subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u), subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u),
        subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u), subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u)));
}

fn product(row: u32, chunk: u32, x: Weights, factors: vec2<f32>) -> f32 {
    let w = values_at(row, chunk);
    let sum = dot(w.v[0], x.v[0]) + dot(w.v[1], x.v[1]) + dot(w.v[2], x.v[2]) + dot(w.v[3], x.v[3])
        + dot(w.v[4], x.v[4]) + dot(w.v[5], x.v[5]) + dot(w.v[6], x.v[6]) + dot(w.v[7], x.v[7]);
    return sum * factors.x * factors.y;
}

// Products of chunk `chunk`, number `i` of its run, of four rows of W.
fn products(n: vec4<u32>, chunk: u32, x: Weights, r: Runs, i: u32) -> vec4<f32> {
    return vec4<f32>(product(n.x, chunk, x, run_factors(r.a, i)), product(n.y, chunk, x, run_factors(r.b, i)),
                     product(n.z, chunk, x, run_factors(r.c, i)), product(n.w, chunk, x, run_factors(r.d, i)));
}

fn end_four(first: u32, n: vec4<u32>, s: vec4<f32>) {
    end_row(0u, first, vec4<f32>(patched(0u, n.x, s.x), patched(0u, n.y, s.y), patched(0u, n.z, s.z), patched(0u, n.w, s.w)));
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let first = folded(group, groups) * (WORKGROUP * THREAD_N) + first_column(lane);
    let low = own_columns(first);
    let high = own_columns(first + FOUR);
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    let span = run_span(chunks);
    prepare();
    var s: vec4<f32>;
    var t: vec4<f32>;  // of the last four rows of eight
    for (var number = 0u; number * span < chunks; number++) {
        let begin = number * span;
        let end = min(begin + span, chunks);
        let of_low = runs_at(low, number, span);
        var of_high = of_low;
        if THREAD_N == 8u { of_high = runs_at(high, number, span); }
        for (var chunk = begin; chunk < end; chunk++) {
            let v = x_chunk(x[chunk * 8u + lane]);
            s += products(low, chunk, v, of_low, chunk - begin);
            if THREAD_N == 8u { t += products(high, chunk, v, of_high, chunk - begin); }
        }
    }
    end_four(first, low, s);
    if THREAD_N == 8u { end_four(first + FOUR, high, t); }
}
