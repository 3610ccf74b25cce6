// Register tile of the *_direct kernels: an invocation owns 8 rows of x times 4 rows of W, WORKGROUP apart.
// Invocation i holds a quad of row i of x and hands it round by a subgroup broadcast. Unrolled by hand: a private array
// with a run-time index costs a software driver more than the arithmetic.
// What costs there is not arithmetic but memory: a load is a loop over the invocations, and a parameter a gather, unless
// an earlier load of it dominates. So x comes in wide loads, and kernels read their parameters before they branch.
// Precondition: the workgroup of 8 lies in one subgroup.
const_assert TILE_M == 8u && THREAD_N == 4u && TILE_N == 4u * WORKGROUP && WORKGROUP == 8u;

struct Sums { a: array<vec4<f32>, 8> }  // [row of x], components: row of W

fn sums_of(s: vec4<f32>, w: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    return s + vec4<f32>(dot(w[0], v), dot(w[1], v), dot(w[2], v), dot(w[3], v));
}

// Adds the products of one quad: x is the quad of this invocation's row.
fn advance_quad(s: Sums, w: mat4x4<f32>, x: vec4<f32>) -> Sums {
    return Sums(array<vec4<f32>, 8>(
        sums_of(s.a[0], w, subgroupBroadcast(x, 0u)), sums_of(s.a[1], w, subgroupBroadcast(x, 1u)),
        sums_of(s.a[2], w, subgroupBroadcast(x, 2u)), sums_of(s.a[3], w, subgroupBroadcast(x, 3u)),
        sums_of(s.a[4], w, subgroupBroadcast(x, 4u)), sums_of(s.a[5], w, subgroupBroadcast(x, 5u)),
        sums_of(s.a[6], w, subgroupBroadcast(x, 6u)), sums_of(s.a[7], w, subgroupBroadcast(x, 7u))));
}

// Adds the products of one chunk of four rows of W with this invocation's row of x.
fn advance(sums: Sums, a: Weights, b: Weights, c: Weights, d: Weights, x: Weights) -> Sums {
    var s = advance_quad(sums, mat4x4<f32>(a.v[0], b.v[0], c.v[0], d.v[0]), x.v[0]);
    s = advance_quad(s, mat4x4<f32>(a.v[1], b.v[1], c.v[1], d.v[1]), x.v[1]);
    s = advance_quad(s, mat4x4<f32>(a.v[2], b.v[2], c.v[2], d.v[2]), x.v[2]);
    s = advance_quad(s, mat4x4<f32>(a.v[3], b.v[3], c.v[3], d.v[3]), x.v[3]);
    s = advance_quad(s, mat4x4<f32>(a.v[4], b.v[4], c.v[4], d.v[4]), x.v[4]);
    s = advance_quad(s, mat4x4<f32>(a.v[5], b.v[5], c.v[5], d.v[5]), x.v[5]);
    s = advance_quad(s, mat4x4<f32>(a.v[6], b.v[6], c.v[6], d.v[6]), x.v[6]);
    return advance_quad(s, mat4x4<f32>(a.v[7], b.v[7], c.v[7], d.v[7]), x.v[7]);
}
