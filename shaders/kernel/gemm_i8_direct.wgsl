// gemm_i8_direct: gemm_i8 for software drivers, which expand dot4I8Packed into shifts.
// x is biased by 128 to 0 ... 255 (lib/direct_i32.wgsl says why), and 128 times the sum of a row of W, which every invocation
// keeps of its own rows, is taken off again. Sums are exact, also where they wrap meanwhile.
// Where scales change within a row, chunks are scaled one by one (lib/x_scale.wgsl).
// Partition: lib/direct_i32.wgsl.
const_assert TILE_M == 8u || TALL;
const BIAS: i32 = 128;

struct Scaled { f: array<vec4<f32>, 8> }  // as Totals

fn biased_quad(w: u32) -> vec4<i32> {
    let bytes = vec4<u32>(w ^ 0x80808080u) >> vec4<u32>(0u, 8u, 16u, 24u);
    return vec4<i32>(bytes & vec4<u32>(0xffu));
}

// A chunk of a row of x, a pair of vec4.
fn x_codes(p: Pair) -> Codes {
    let low = p.low;
    let high = p.high;
    return Codes(array<vec4<i32>, 8>(biased_quad(low.x), biased_quad(low.y), biased_quad(low.z), biased_quad(low.w),
                                     biased_quad(high.x), biased_quad(high.y), biased_quad(high.z), biased_quad(high.w)));
}

// The same codes: they fit a byte, and the compiler sees it.
fn narrow(q: vec4<i32>) -> vec4<i32> { return (q << vec4<u32>(24u)) >> vec4<u32>(24u); }

fn narrow_codes(row: u32, chunk: u32) -> Codes {
    let c = codes_at(row, chunk);
    return Codes(array<vec4<i32>, 8>(narrow(c.q[0]), narrow(c.q[1]), narrow(c.q[2]), narrow(c.q[3]),
                                     narrow(c.q[4]), narrow(c.q[5]), narrow(c.q[6]), narrow(c.q[7])));
}

fn w_chunk(n: vec4<u32>, chunk: u32) -> Four {
    return Four(narrow_codes(n.x, chunk), narrow_codes(n.y, chunk), narrow_codes(n.z, chunk), narrow_codes(n.w, chunk));
}

// What the bias of x adds to the products of a chunk.
fn excess(w: Four) -> vec4<i32> {
    return BIAS * vec4<i32>(code_sum(w.a), code_sum(w.b), code_sum(w.c), code_sum(w.d));
}

// Adds the products of one chunk of four rows of W with row `row` of x. Row by row, as the sums of one row and what it is
// multiplied with are all that registers hold.
fn row_sum(sum: vec4<i32>, w: Four, x: Codes, row: u32) -> vec4<i32> {
    var s = summed(sum, by_k(w.a.q[0], w.b.q[0], w.c.q[0], w.d.q[0]), subgroupShuffle(x.q[0], row));
    s = summed(s, by_k(w.a.q[1], w.b.q[1], w.c.q[1], w.d.q[1]), subgroupShuffle(x.q[1], row));
    s = summed(s, by_k(w.a.q[2], w.b.q[2], w.c.q[2], w.d.q[2]), subgroupShuffle(x.q[2], row));
    s = summed(s, by_k(w.a.q[3], w.b.q[3], w.c.q[3], w.d.q[3]), subgroupShuffle(x.q[3], row));
    s = summed(s, by_k(w.a.q[4], w.b.q[4], w.c.q[4], w.d.q[4]), subgroupShuffle(x.q[4], row));
    s = summed(s, by_k(w.a.q[5], w.b.q[5], w.c.q[5], w.d.q[5]), subgroupShuffle(x.q[5], row));
    s = summed(s, by_k(w.a.q[6], w.b.q[6], w.c.q[6], w.d.q[6]), subgroupShuffle(x.q[6], row));
    return summed(s, by_k(w.a.q[7], w.b.q[7], w.c.q[7], w.d.q[7]), subgroupShuffle(x.q[7], row));
}

// Adds the products of one chunk of four rows of W with eight rows of x, this invocation's among them.
fn advance(t: Totals, w: Four, x: Codes) -> Totals {
    return Totals(array<vec4<i32>, 8>(
        row_sum(t.i[0], w, x, 0u), row_sum(t.i[1], w, x, 1u), row_sum(t.i[2], w, x, 2u), row_sum(t.i[3], w, x, 3u),
        row_sum(t.i[4], w, x, 4u), row_sum(t.i[5], w, x, 5u), row_sum(t.i[6], w, x, 6u), row_sum(t.i[7], w, x, 7u)));
}

// Adds the sums of a chunk, each by its scales: of the row of W and of this invocation's row of x.
fn scaled_sums(s: Scaled, part: Totals, less: vec4<f32>, scale: vec4<f32>, of_x: f32) -> Scaled {
    return Scaled(array<vec4<f32>, 8>(
        s.f[0] + (vec4<f32>(part.i[0]) - less) * scale * subgroupBroadcast(of_x, 0u),
        s.f[1] + (vec4<f32>(part.i[1]) - less) * scale * subgroupBroadcast(of_x, 1u),
        s.f[2] + (vec4<f32>(part.i[2]) - less) * scale * subgroupBroadcast(of_x, 2u),
        s.f[3] + (vec4<f32>(part.i[3]) - less) * scale * subgroupBroadcast(of_x, 3u),
        s.f[4] + (vec4<f32>(part.i[4]) - less) * scale * subgroupBroadcast(of_x, 4u),
        s.f[5] + (vec4<f32>(part.i[5]) - less) * scale * subgroupBroadcast(of_x, 5u),
        s.f[6] + (vec4<f32>(part.i[6]) - less) * scale * subgroupBroadcast(of_x, 6u),
        s.f[7] + (vec4<f32>(part.i[7]) - less) * scale * subgroupBroadcast(of_x, 7u)));
}

// Stores eight rows of sums; of_row: the scale of this invocation's row of x.
fn end_rows(m: u32, n0: u32, t: Totals, over: vec4<i32>, s: Scaled, of_row: f32, ends: vec4<f32>) {
    end_sums(m, n0, t.i[0] - over, s.f[0], subgroupBroadcast(of_row, 0u) * ends);
    end_sums(m + 1u, n0, t.i[1] - over, s.f[1], subgroupBroadcast(of_row, 1u) * ends);
    end_sums(m + 2u, n0, t.i[2] - over, s.f[2], subgroupBroadcast(of_row, 2u) * ends);
    end_sums(m + 3u, n0, t.i[3] - over, s.f[3], subgroupBroadcast(of_row, 3u) * ends);
    end_sums(m + 4u, n0, t.i[4] - over, s.f[4], subgroupBroadcast(of_row, 4u) * ends);
    end_sums(m + 5u, n0, t.i[5] - over, s.f[5], subgroupBroadcast(of_row, 5u) * ends);
    end_sums(m + 6u, n0, t.i[6] - over, s.f[6], subgroupBroadcast(of_row, 6u) * ends);
    end_sums(m + 7u, n0, t.i[7] - over, s.f[7], subgroupBroadcast(of_row, 7u) * ends);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = (tile / tiles_n) * TILE_M;
    let n0 = (tile % tiles_n) * TILE_N + first_column(lane);
    // Rows past the end repeat the last one; their sums are never stored.
    let own = min(m0 + lane, params.m - 1u);
    let own8 = min(m0 + 8u + lane, params.m - 1u);
    let x0 = own * (params.x_stride / 8u);
    let x8 = own8 * (params.x_stride / 8u);
    if m0 >= params.m { return; }
    let n = own_columns(n0);
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var s: Scaled;
    var s8: Scaled;  // of rows 8 to 15 of a tall tile, as t8
    var t: Totals;
    var t8: Totals;
    var over: vec4<i32>;
    var ends = vec4<f32>(1.0);
    for (var chunk = 0u; chunk < chunks; chunk++) {
        // x first: its loads are loops, over which what W decodes to would have to be kept in memory.
        let x = x_pair(x0 + chunk);
        var y: Pair;
        if TALL { y = x_pair(x8 + chunk); }
        let w = w_chunk(n, chunk);
        if WHOLE_SUM {
            over += excess(w);
            t = advance(t, w, x_codes(x));
            if TALL { t8 = advance(t8, w, x_codes(y)); }
        } else {
            // In f32, which is exact here, so that no compiler factors the bias out of the products again.
            let less = vec4<f32>(excess(w));
            let k = chunk * CHUNK;
            let scale = vec4<f32>(scale_at(n.x, k), scale_at(n.y, k), scale_at(n.z, k), scale_at(n.w, k));
            s = scaled_sums(s, advance(Totals(), w, x_codes(x)), less, scale, chunk_scale(own, chunk));
            if TALL {
                s8 = scaled_sums(s8, advance(Totals(), w, x_codes(y)), less, scale, chunk_scale(own8, chunk));
            }
        }
    }
    if WHOLE_SUM { ends = vec4<f32>(scale_at(n.x, 0u), scale_at(n.y, 0u), scale_at(n.z, 0u), scale_at(n.w, 0u)); }
    var of_row = 1.0;
    var of_row8 = 1.0;
    if X_PER_CHUNK == 0u {
        of_row = x_scale[own];
        if TALL { of_row8 = x_scale[own8]; }
    }
    end_rows(m0, n0, t, over, s, of_row, ends);
    if TALL { end_rows(m0 + 8u, n0, t8, over, s8, of_row8, ends); }
}
