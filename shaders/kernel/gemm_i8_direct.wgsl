// gemm_i8_direct: gemm_i8 for software drivers, which expand dot4I8Packed into shifts.
// A product of i32 whose factors are known to fit 16 bits, one of them not negative, is one instruction of x86 with the sum
// that follows (pmaddwd, vpdpwssd), where a float product and its sum are two. So x is biased by 128 to 0 ... 255, and 128
// times the sum of a row of W, which every invocation keeps of its own rows, is taken off again; the shifts by 24 tell the compiler
// what it cannot see, that codes fit a byte. Sums are exact, also where they wrap meanwhile.
// Where scales change within a row, chunks are scaled one by one (lib/x_scale.wgsl).
// Partition: 8 rows of x times own_columns (lib/columns.wgsl) per invocation. Invocation i holds a quad of row i of x and
// hands it round by a subgroup broadcast. Precondition: the workgroup of 8 lies in one subgroup.
const_assert THREAD_N == 4u && TILE_M == 8u && TILE_N == 4u * WORKGROUP && WORKGROUP == 8u;
const BIAS: i32 = 128;

struct Totals { i: array<vec4<i32>, 8> }                // [row of x], components: row of W
struct Scaled { f: array<vec4<f32>, 8> }                // likewise
struct Four { a: Codes, b: Codes, c: Codes, d: Codes }  // a chunk of this invocation's rows of W
struct Quad { k: array<vec4<i32>, 4> }                  // [k], components: row of W

fn biased_quad(w: u32) -> vec4<i32> {
    let bytes = vec4<u32>(w ^ 0x80808080u) >> vec4<u32>(0u, 8u, 16u, 24u);
    return vec4<i32>(bytes & vec4<u32>(0xffu));
}

// A chunk of a row of x, which begins at vec4 `at`.
fn x_chunk(at: u32) -> Codes {
    let low = x[at];
    let high = x[at + 1u];
    return Codes(array<vec4<i32>, 8>(biased_quad(low.x), biased_quad(low.y), biased_quad(low.z), biased_quad(low.w),
                                     biased_quad(high.x), biased_quad(high.y), biased_quad(high.z), biased_quad(high.w)));
}

fn narrow(q: vec4<i32>) -> vec4<i32> { return (q << vec4<u32>(24u)) >> vec4<u32>(24u); }

fn narrow_codes(row: u32, chunk: u32) -> Codes {
    let c = codes_at(row, chunk);
    return Codes(array<vec4<i32>, 8>(narrow(c.q[0]), narrow(c.q[1]), narrow(c.q[2]), narrow(c.q[3]),
                                     narrow(c.q[4]), narrow(c.q[5]), narrow(c.q[6]), narrow(c.q[7])));
}

fn w_chunk(n: vec4<u32>, chunk: u32) -> Four {
    return Four(narrow_codes(n.x, chunk), narrow_codes(n.y, chunk), narrow_codes(n.z, chunk), narrow_codes(n.w, chunk));
}

fn quad(w: Four, i: u32) -> Quad {
    let a = w.a.q[i];
    let b = w.b.q[i];
    let c = w.c.q[i];
    let d = w.d.q[i];
    return Quad(array<vec4<i32>, 4>(vec4<i32>(a.x, b.x, c.x, d.x), vec4<i32>(a.y, b.y, c.y, d.y),
                                    vec4<i32>(a.z, b.z, c.z, d.z), vec4<i32>(a.w, b.w, c.w, d.w)));
}

fn code_sum(c: Codes) -> i32 {
    let sum = ((c.q[0] + c.q[1]) + (c.q[2] + c.q[3])) + ((c.q[4] + c.q[5]) + (c.q[6] + c.q[7]));
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// What the bias of x adds to the products of a chunk.
fn excess(w: Four) -> vec4<i32> {
    return BIAS * vec4<i32>(code_sum(w.a), code_sum(w.b), code_sum(w.c), code_sum(w.d));
}

fn summed(sum: vec4<i32>, w: Quad, v: vec4<i32>) -> vec4<i32> {
    return sum + w.k[0] * vec4<i32>(v.x) + w.k[1] * vec4<i32>(v.y) + w.k[2] * vec4<i32>(v.z) + w.k[3] * vec4<i32>(v.w);
}

fn advance_quad(t: Totals, w: Quad, x: vec4<i32>) -> Totals {
    return Totals(array<vec4<i32>, 8>(
        summed(t.i[0], w, subgroupBroadcast(x, 0u)), summed(t.i[1], w, subgroupBroadcast(x, 1u)),
        summed(t.i[2], w, subgroupBroadcast(x, 2u)), summed(t.i[3], w, subgroupBroadcast(x, 3u)),
        summed(t.i[4], w, subgroupBroadcast(x, 4u)), summed(t.i[5], w, subgroupBroadcast(x, 5u)),
        summed(t.i[6], w, subgroupBroadcast(x, 6u)), summed(t.i[7], w, subgroupBroadcast(x, 7u))));
}

// Adds the products of one chunk of four rows of W with this invocation's row of x.
fn advance(totals: Totals, w: Four, x: Codes) -> Totals {
    var t = advance_quad(totals, quad(w, 0u), x.q[0]);
    t = advance_quad(t, quad(w, 1u), x.q[1]);
    t = advance_quad(t, quad(w, 2u), x.q[2]);
    t = advance_quad(t, quad(w, 3u), x.q[3]);
    t = advance_quad(t, quad(w, 4u), x.q[4]);
    t = advance_quad(t, quad(w, 5u), x.q[5]);
    t = advance_quad(t, quad(w, 6u), x.q[6]);
    return advance_quad(t, quad(w, 7u), x.q[7]);
}

// `ends` is all that the sum of row m has to be multiplied by.
fn end_sums(m: u32, n0: u32, total: vec4<i32>, sums: vec4<f32>, ends: vec4<f32>) {
    if WHOLE_SUM { end_counts(m, n0, total, ends); } else { end_row(m, n0, sums * ends); }
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows - params.n_first + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = params.m_first + (tile / tiles_n) * TILE_M;
    let n0 = params.n_first + (tile % tiles_n) * TILE_N + first_column(lane);
    // Rows past the end repeat the last one; their sums are never stored.
    let own = min(m0 + lane, params.m - 1u);
    let x0 = own * (params.x_stride / 4u) - params.x_base;
    if m0 >= params.m { return; }
    let n = own_columns(n0);
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var s: Scaled;
    var t: Totals;
    var over: vec4<i32>;
    var ends = vec4<f32>(1.0);
    if WHOLE_SUM {
        for (var chunk = 0u; chunk < chunks; chunk++) {
            let codes = x_chunk(x0 + 2u * chunk);
            let w = w_chunk(n, chunk);
            over += excess(w);
            t = advance(t, w, codes);
        }
        ends = vec4<f32>(scale_at(n.x, 0u), scale_at(n.y, 0u), scale_at(n.z, 0u), scale_at(n.w, 0u));
    } else {
        for (var chunk = 0u; chunk < chunks; chunk++) {
            let codes = x_chunk(x0 + 2u * chunk);
            let w = w_chunk(n, chunk);
            let part = advance(Totals(), w, codes);
            let less = excess(w);
            let k = chunk * CHUNK;
            let scale = vec4<f32>(scale_at(n.x, k), scale_at(n.y, k), scale_at(n.z, k), scale_at(n.w, k));
            let of_x = chunk_scale(own, chunk);
            s.f[0] += vec4<f32>(part.i[0] - less) * scale * subgroupBroadcast(of_x, 0u);
            s.f[1] += vec4<f32>(part.i[1] - less) * scale * subgroupBroadcast(of_x, 1u);
            s.f[2] += vec4<f32>(part.i[2] - less) * scale * subgroupBroadcast(of_x, 2u);
            s.f[3] += vec4<f32>(part.i[3] - less) * scale * subgroupBroadcast(of_x, 3u);
            s.f[4] += vec4<f32>(part.i[4] - less) * scale * subgroupBroadcast(of_x, 4u);
            s.f[5] += vec4<f32>(part.i[5] - less) * scale * subgroupBroadcast(of_x, 5u);
            s.f[6] += vec4<f32>(part.i[6] - less) * scale * subgroupBroadcast(of_x, 6u);
            s.f[7] += vec4<f32>(part.i[7] - less) * scale * subgroupBroadcast(of_x, 7u);
        }
    }
    var of_row = 1.0;
    if X_PER_CHUNK == 0u { of_row = x_scale[own]; }
    end_sums(m0, n0, t.i[0] - over, s.f[0], subgroupBroadcast(of_row, 0u) * ends);
    end_sums(m0 + 1u, n0, t.i[1] - over, s.f[1], subgroupBroadcast(of_row, 1u) * ends);
    end_sums(m0 + 2u, n0, t.i[2] - over, s.f[2], subgroupBroadcast(of_row, 2u) * ends);
    end_sums(m0 + 3u, n0, t.i[3] - over, s.f[3], subgroupBroadcast(of_row, 3u) * ends);
    end_sums(m0 + 4u, n0, t.i[4] - over, s.f[4], subgroupBroadcast(of_row, 4u) * ends);
    end_sums(m0 + 5u, n0, t.i[5] - over, s.f[5], subgroupBroadcast(of_row, 5u) * ends);
    end_sums(m0 + 6u, n0, t.i[6] - over, s.f[6], subgroupBroadcast(of_row, 6u) * ends);
    end_sums(m0 + 7u, n0, t.i[7] - over, s.f[7], subgroupBroadcast(of_row, 7u) * ends);
}
