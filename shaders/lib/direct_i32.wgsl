// Register tile of the integer *_direct kernels: an invocation owns 8 rows of x, or pairs of rows, times 4 rows of W, its
// own_columns of y. Invocation i holds a quad of row i of x and hands it round by a subgroup broadcast.
// A product of i32 whose factors are known to fit 16 bits, one of them not negative, is one instruction of x86 with the sum
// that follows (pmaddwd and paddd, or vpdpwssd alone), where a product of f32 and its sum are two. So one operand is biased,
// what the bias adds is taken off again, and shifts tell the compiler what it cannot see of the other one.
// Precondition: the workgroup of 8 lies in one subgroup.
const TALL: bool = TILE_M == 16u;
const_assert THREAD_N == 4u && TILE_N == 4u * WORKGROUP && WORKGROUP == 8u;

struct Totals { i: array<vec4<i32>, 8> }                // [row of x], components: row of W
struct Four { a: Codes, b: Codes, c: Codes, d: Codes }  // a chunk of this invocation's rows of W
struct Quad { k: array<vec4<i32>, 4> }                  // [k], components: row of W

// A quad of each row, by k. Quads are taken out of chunks by constants only: by what becomes one in a call, they are copied
// to memory at each, which takes drivers long to compile away.
fn by_k(a: vec4<i32>, b: vec4<i32>, c: vec4<i32>, d: vec4<i32>) -> Quad {
    return Quad(array<vec4<i32>, 4>(vec4<i32>(a.x, b.x, c.x, d.x), vec4<i32>(a.y, b.y, c.y, d.y),
                                    vec4<i32>(a.z, b.z, c.z, d.z), vec4<i32>(a.w, b.w, c.w, d.w)));
}

fn code_sum(c: Codes) -> i32 {
    let sums = ((c.q[0] + c.q[1]) + (c.q[2] + c.q[3])) + ((c.q[4] + c.q[5]) + (c.q[6] + c.q[7]));
    return (sums.x + sums.y) + (sums.z + sums.w);
}

fn summed(sum: vec4<i32>, w: Quad, v: vec4<i32>) -> vec4<i32> {
    return sum + w.k[0] * vec4<i32>(v.x) + w.k[1] * vec4<i32>(v.y) + w.k[2] * vec4<i32>(v.z) + w.k[3] * vec4<i32>(v.w);
}

// `ends` is all that the sum of row m has to be multiplied by.
fn end_sums(m: u32, n0: u32, total: vec4<i32>, sums: vec4<f32>, ends: vec4<f32>) {
    if WHOLE_SUM { end_counts(m, n0, total, ends); } else { end_row(m, n0, sums * ends); }
}
