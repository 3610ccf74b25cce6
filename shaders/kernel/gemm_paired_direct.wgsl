// gemm_paired_direct: gemm_i8_direct for codes so small that two rows of x share a factor, a + 4096 b: one product and one
// sum serve both. With |x| <= 7 and W biased to 0 ... 18 (|W| <= 9) or 0 ... 15 (codes of four bits)
// 16 products sum to at most 2016 for either row, so neither reaches into the other one; then they are taken apart. What
// the bias adds, BIAS times the sum of a row of x, is taken off again.
// Partition: lib/direct_i32.wgsl, with pairs of rows: invocation i holds rows i and i + 8.
// Precondition: x holds four-bit fields, two's complement, rows padded with zeros to whole chunks.
const_assert TILE_M == 16u && X_PER_CHUNK == 0u;
const BASE_BITS: vec4<u32> = vec4<u32>(12u);
const MIDDLE: i32 = 2048;  // half a base: with it a shift takes sums of either sign apart
// A power of two where codes allow: then a code is biased by turning a bit of its field.
const BIAS: i32 = select(9, 8, FOUR_BIT_CODES);
const BIASED_MASK: i32 = select(31, 15, FOUR_BIT_CODES);

struct Parts { all: Totals, high: Totals }  // of all pairs, what Part has of one

// Fields 0 to 3 of `low`, and of `high` times 4096; the shifts tell the compiler that their sum fits 16 bits.
fn pairs(low: u32, high: u32) -> vec4<i32> {
    let up = vec4<u32>(28u, 24u, 20u, 16u);
    let a = bitcast<vec4<i32>>(vec4<u32>(low) << up) >> vec4<u32>(28u);
    let b = (bitcast<vec4<i32>>(vec4<u32>(high) << up) >> vec4<u32>(16u)) & vec4<i32>(-4096);
    return ((a + b) << vec4<u32>(16u)) >> vec4<u32>(16u);
}

// A chunk of two rows of x.
fn x_chunk(low: vec4<u32>, high: vec4<u32>) -> Codes {
    return Codes(array<vec4<i32>, 8>(
        pairs(low.x, high.x), pairs(low.x >> 16u, high.x >> 16u), pairs(low.y, high.y), pairs(low.y >> 16u, high.y >> 16u),
        pairs(low.z, high.z), pairs(low.z >> 16u, high.z >> 16u), pairs(low.w, high.w), pairs(low.w >> 16u, high.w >> 16u)));
}

fn biased_quad(q: vec4<i32>) -> vec4<i32> { return (q + vec4<i32>(BIAS)) & vec4<i32>(BIASED_MASK); }

// The first four fields of a word of them.
fn nibbles(w: u32) -> vec4<i32> { return vec4<i32>((vec4<u32>(w) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)); }

fn biased_codes(row: u32, chunk: u32) -> Codes {
    if SIGNED_NIBBLES {  // eight fields at once are biased
        let w = four_words(row * params.row_words + chunk * 4u) ^ vec4<u32>(0x88888888u);
        return Codes(array<vec4<i32>, 8>(nibbles(w.x), nibbles(w.x >> 16u), nibbles(w.y), nibbles(w.y >> 16u),
                                         nibbles(w.z), nibbles(w.z >> 16u), nibbles(w.w), nibbles(w.w >> 16u)));
    }
    let c = codes_at(row, chunk);
    return Codes(array<vec4<i32>, 8>(biased_quad(c.q[0]), biased_quad(c.q[1]), biased_quad(c.q[2]), biased_quad(c.q[3]),
                                     biased_quad(c.q[4]), biased_quad(c.q[5]), biased_quad(c.q[6]), biased_quad(c.q[7])));
}

fn w_chunk(n: vec4<u32>, chunk: u32) -> Four {
    return Four(biased_codes(n.x, chunk), biased_codes(n.y, chunk), biased_codes(n.z, chunk), biased_codes(n.w, chunk));
}

// What of a sum of pairs belongs to the upper row, where MIDDLE is in the sum.
fn upper(sum: vec4<i32>) -> vec4<i32> { return sum >> BASE_BITS; }

// Sums of a pair of rows: of all, with MIDDLE for every 16 products; what of them belongs to the upper row; those of the
// last two times 16 products.
struct Part { all: vec4<i32>, high: vec4<i32>, first: vec4<i32>, second: vec4<i32> }

// What of the sums of `chunks` chunks belongs to the lower row.
fn lower(all: vec4<i32>, high: vec4<i32>, chunks: u32) -> vec4<i32> {
    return all - (high << BASE_BITS) - vec4<i32>(i32(chunks) * 2 * MIDDLE);
}

// 0, where `zero` is 0; known no sooner than all of `before` is.
fn after(before: Part, zero: i32) -> vec4<i32> {
    let sums = before.first | before.second;
    return vec4<i32>((sums.x | sums.y | sums.z | sums.w) & zero & 1);
}

// Adds the products of one chunk of four rows of W with pair `row` of x. Pairs follow one another: of all at once, which is
// what a compiler makes of independent ones, sums do not fit registers, and every product would load and store its sum.
fn row_part(all: vec4<i32>, high: vec4<i32>, before: Part, w: Four, x: Codes, row: u32, zero: i32) -> Part {
    let d = after(before, zero);
    var s = summed(vec4<i32>(MIDDLE), by_k(w.a.q[0], w.b.q[0], w.c.q[0], w.d.q[0]), subgroupShuffle(x.q[0], row) | d);
    s = summed(s, by_k(w.a.q[1], w.b.q[1], w.c.q[1], w.d.q[1]), subgroupShuffle(x.q[1], row) | d);
    s = summed(s, by_k(w.a.q[2], w.b.q[2], w.c.q[2], w.d.q[2]), subgroupShuffle(x.q[2], row) | d);
    s = summed(s, by_k(w.a.q[3], w.b.q[3], w.c.q[3], w.d.q[3]), subgroupShuffle(x.q[3], row) | d);
    var u = summed(vec4<i32>(MIDDLE), by_k(w.a.q[4], w.b.q[4], w.c.q[4], w.d.q[4]), subgroupShuffle(x.q[4], row) | d);
    u = summed(u, by_k(w.a.q[5], w.b.q[5], w.c.q[5], w.d.q[5]), subgroupShuffle(x.q[5], row) | d);
    u = summed(u, by_k(w.a.q[6], w.b.q[6], w.c.q[6], w.d.q[6]), subgroupShuffle(x.q[6], row) | d);
    u = summed(u, by_k(w.a.q[7], w.b.q[7], w.c.q[7], w.d.q[7]), subgroupShuffle(x.q[7], row) | d);
    return Part(all + s + u, high + upper(s) + upper(u), s, u);
}

// Adds the products of one chunk of four rows of W with this invocation's rows of x.
fn advance(t: Parts, w: Four, x: Codes, zero: i32) -> Parts {
    let a = row_part(t.all.i[0], t.high.i[0], Part(), w, x, 0u, zero);
    let b = row_part(t.all.i[1], t.high.i[1], a, w, x, 1u, zero);
    let c = row_part(t.all.i[2], t.high.i[2], b, w, x, 2u, zero);
    let d = row_part(t.all.i[3], t.high.i[3], c, w, x, 3u, zero);
    let e = row_part(t.all.i[4], t.high.i[4], d, w, x, 4u, zero);
    let f = row_part(t.all.i[5], t.high.i[5], e, w, x, 5u, zero);
    let g = row_part(t.all.i[6], t.high.i[6], f, w, x, 6u, zero);
    let h = row_part(t.all.i[7], t.high.i[7], g, w, x, 7u, zero);
    return Parts(Totals(array<vec4<i32>, 8>(a.all, b.all, c.all, d.all, e.all, f.all, g.all, h.all)),
                 Totals(array<vec4<i32>, 8>(a.high, b.high, c.high, d.high, e.high, f.high, g.high, h.high)));
}

// What the bias of W adds to the products of this invocation's two rows of x.
fn excess(x: Codes) -> vec2<i32> {
    let sum = code_sum(x) + MIDDLE;
    let high = sum >> 12u;
    return BIAS * vec2<i32>(sum - MIDDLE - (high << 12u), high);
}

// What invocation i of the eight holds.
fn held(v: vec2<i32>, i: u32) -> vec2<i32> {
    switch i {
        case 0u: { return subgroupBroadcast(v, 0u); }
        case 1u: { return subgroupBroadcast(v, 1u); }
        case 2u: { return subgroupBroadcast(v, 2u); }
        case 3u: { return subgroupBroadcast(v, 3u); }
        case 4u: { return subgroupBroadcast(v, 4u); }
        case 5u: { return subgroupBroadcast(v, 5u); }
        case 6u: { return subgroupBroadcast(v, 6u); }
        default: { return subgroupBroadcast(v, 7u); }
    }
}

// Ends rows m and m + 8 of `chunks` chunks: `less` is what the bias added to them, `of_x` their scales.
fn end_pair(m: u32, n0: u32, chunks: u32, all: vec4<i32>, upper_sum: vec4<i32>, less: vec2<i32>, low: vec4<f32>,
            high: vec4<f32>, of_x: vec2<f32>, ends: vec4<f32>) {
    end_sums(m, n0, lower(all, upper_sum, chunks) - less.x, low, of_x.x * ends);
    end_sums(m + 8u, n0, upper_sum - less.y, high, of_x.y * ends);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let tiles_n = (params.rows + TILE_N - 1u) / TILE_N;
    let tile = folded(group, groups);
    let m0 = (tile / tiles_n) * TILE_M;
    let n0 = (tile % tiles_n) * TILE_N + first_column(lane);
    // Rows past the end repeat the last one; their sums are never stored.
    let own = min(vec2<u32>(m0 + lane, m0 + lane + 8u), vec2<u32>(params.m - 1u));
    let x0 = own * (params.x_stride / 4u);
    if m0 >= params.m { return; }
    let n = own_columns(n0);
    let zero = i32(params.zero);
    let chunks = (params.cols + CHUNK - 1u) / CHUNK;
    var low: array<vec4<f32>, 8>;   // scaled sums, where scales change within a row
    var high: array<vec4<f32>, 8>;
    var t: Parts;
    var over: vec2<i32>;
    var ends = vec4<f32>(1.0);
    for (var chunk = 0u; chunk < chunks; chunk++) {
        let codes = x_chunk(x_at(x0.x + chunk), x_at(x0.y + chunk));
        let w = w_chunk(n, chunk);
        if WHOLE_SUM {
            over += excess(codes);
            t = advance(t, w, codes, zero);
        } else {
            let k = chunk * CHUNK;
            let scale = vec4<f32>(scale_at(n.x, k), scale_at(n.y, k), scale_at(n.z, k), scale_at(n.w, k));
            var part = advance(Parts(), w, codes, zero);
            let less = excess(codes);
            for (var i = 0u; i < 8u; i++) {
                let of_row = held(less, i);
                low[i] += vec4<f32>(lower(part.all.i[i], part.high.i[i], 1u) - of_row.x) * scale;
                high[i] += vec4<f32>(part.high.i[i] - of_row.y) * scale;
            }
        }
    }
    if WHOLE_SUM { ends = vec4<f32>(scale_at(n.x, 0u), scale_at(n.y, 0u), scale_at(n.z, 0u), scale_at(n.w, 0u)); }
    let of_x = vec2<f32>(x_scale[own.x], x_scale[own.y]);
    // Unrolled by hand, as lib/direct.wgsl says.
    end_pair(m0, n0, chunks, t.all.i[0], t.high.i[0], subgroupBroadcast(over, 0u), low[0], high[0],
             subgroupBroadcast(of_x, 0u), ends);
    end_pair(m0 + 1u, n0, chunks, t.all.i[1], t.high.i[1], subgroupBroadcast(over, 1u), low[1], high[1],
             subgroupBroadcast(of_x, 1u), ends);
    end_pair(m0 + 2u, n0, chunks, t.all.i[2], t.high.i[2], subgroupBroadcast(over, 2u), low[2], high[2],
             subgroupBroadcast(of_x, 2u), ends);
    end_pair(m0 + 3u, n0, chunks, t.all.i[3], t.high.i[3], subgroupBroadcast(over, 3u), low[3], high[3],
             subgroupBroadcast(of_x, 3u), ends);
    end_pair(m0 + 4u, n0, chunks, t.all.i[4], t.high.i[4], subgroupBroadcast(over, 4u), low[4], high[4],
             subgroupBroadcast(of_x, 4u), ends);
    end_pair(m0 + 5u, n0, chunks, t.all.i[5], t.high.i[5], subgroupBroadcast(over, 5u), low[5], high[5],
             subgroupBroadcast(of_x, 5u), ends);
    end_pair(m0 + 6u, n0, chunks, t.all.i[6], t.high.i[6], subgroupBroadcast(over, 6u), low[6], high[6],
             subgroupBroadcast(of_x, 6u), ends);
    end_pair(m0 + 7u, n0, chunks, t.all.i[7], t.high.i[7], subgroupBroadcast(over, 7u), low[7], high[7],
             subgroupBroadcast(of_x, 7u), ends);
}
