// gemm_planes_direct: products of codes -1, 0 and +1 by bit planes, for software drivers. Two's complement fields of two
// bits are two planes, `filled` (the code is not 0) and `negative`. A product is not 0 where both are filled and negative
// where the signs differ too, so 32 of them sum to countOneBits(filled) - 2 countOneBits(negative), exactly.
// Partition: an invocation owns 16 rows of x times 4 rows of W, its own_columns of y; invocation i holds the planes of
// rows i and i + 8 of x and hands them round by a subgroup broadcast. A step is two chunks, one vec4 of words per row.
// Preconditions: the workgroup of 8 lies in one subgroup; x holds two-bit fields, rows padded with zeros to whole steps
// (past them W may be anything: its products are 0); no code of W is -2.
const_assert WORKGROUP == 8u && TILE_M == 16u && THREAD_N == 4u && TILE_N == 4u * WORKGROUP;
const_assert BITS == 2u && ROW_SCALE && X_PER_CHUNK == 0u;
const LOW_BITS: u32 = 0x55555555u;

struct Totals { i: array<vec4<i32>, 8> }                                       // [row of x], components: row of W
struct Columns { filled: array<vec4<u32>, 2>, negative: array<vec4<u32>, 2> }     // [chunk], components: row of W

// Planes of a step: those of what is filled, then those of what is negative. Both operands come in the same order of bits,
// which need not be that of k: fields of a chunk's first word at even bits, of its second word at odd ones.
fn planes(w: vec4<u32>) -> vec4<u32> {
    let one = vec2<u32>(1u);
    let low = vec2<u32>(LOW_BITS);
    return vec4<u32>((w.xz & low) | ((w.yw & low) << one), ((w.xz >> one) & low) | (w.yw & ~low));
}

fn columns(n: vec4<u32>, step: u32) -> Columns {
    let first = n * params.row_words + vec4<u32>(4u * step);
    let a = planes(four_words(first.x));
    let b = planes(four_words(first.y));
    let c = planes(four_words(first.z));
    let d = planes(four_words(first.w));
    return Columns(array<vec4<u32>, 2>(vec4<u32>(a.x, b.x, c.x, d.x), vec4<u32>(a.y, b.y, c.y, d.y)),
                   array<vec4<u32>, 2>(vec4<u32>(a.z, b.z, c.z, d.z), vec4<u32>(a.w, b.w, c.w, d.w)));
}

// Adds the products of a step; x holds the planes of one row.
fn counted(total: vec4<i32>, w: Columns, x: vec4<u32>) -> vec4<i32> {
    let first = w.filled[0] & vec4<u32>(x.x);
    let second = w.filled[1] & vec4<u32>(x.y);
    let filled = countOneBits(first) + countOneBits(second);
    let negative = countOneBits(first & (w.negative[0] ^ vec4<u32>(x.z)))
                 + countOneBits(second & (w.negative[1] ^ vec4<u32>(x.w)));
    return total + vec4<i32>(filled) - 2 * vec4<i32>(negative);
}

// Adds the products of a step with eight rows of x, the planes of this invocation's in q.
fn advance(t: Totals, w: Columns, q: vec4<u32>) -> Totals {
    return Totals(array<vec4<i32>, 8>(
        counted(t.i[0], w, subgroupBroadcast(q, 0u)), counted(t.i[1], w, subgroupBroadcast(q, 1u)),
        counted(t.i[2], w, subgroupBroadcast(q, 2u)), counted(t.i[3], w, subgroupBroadcast(q, 3u)),
        counted(t.i[4], w, subgroupBroadcast(q, 4u)), counted(t.i[5], w, subgroupBroadcast(q, 5u)),
        counted(t.i[6], w, subgroupBroadcast(q, 6u)), counted(t.i[7], w, subgroupBroadcast(q, 7u))));
}

fn end_rows(m: u32, n0: u32, t: Totals, of_row: f32, ends: vec4<f32>) {
    end_counts(m, n0, t.i[0], subgroupBroadcast(of_row, 0u) * ends);
    end_counts(m + 1u, n0, t.i[1], subgroupBroadcast(of_row, 1u) * ends);
    end_counts(m + 2u, n0, t.i[2], subgroupBroadcast(of_row, 2u) * ends);
    end_counts(m + 3u, n0, t.i[3], subgroupBroadcast(of_row, 3u) * ends);
    end_counts(m + 4u, n0, t.i[4], subgroupBroadcast(of_row, 4u) * ends);
    end_counts(m + 5u, n0, t.i[5], subgroupBroadcast(of_row, 5u) * ends);
    end_counts(m + 6u, n0, t.i[6], subgroupBroadcast(of_row, 6u) * ends);
    end_counts(m + 7u, n0, t.i[7], subgroupBroadcast(of_row, 7u) * ends);
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
    let steps = (params.cols + 2u * CHUNK - 1u) / (2u * CHUNK);
    var low: Totals;
    var high: Totals;
    for (var step = 0u; step < steps; step++) {
        // x first: its loads are loops, over which what W decodes to would have to be kept in memory.
        let a = planes(x_at(x0.x + step));
        let b = planes(x_at(x0.y + step));
        let w = columns(n, step);
        low = advance(low, w, a);
        high = advance(high, w, b);
    }
    let ends = vec4<f32>(scale_at(n.x, 0u), scale_at(n.y, 0u), scale_at(n.z, 0u), scale_at(n.w, 0u));
    let of_x = vec2<f32>(x_scale[own.x], x_scale[own.y]);
    end_rows(m0, n0, low, of_x.x, ends);
    end_rows(m0 + 8u, n0, high, of_x.y, ends);
}
