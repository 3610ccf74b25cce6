// Register tile of the *_direct kernels: an invocation owns 8 rows of x (16 in tall tiles of float kernels,
// which decode W less often) times 4 rows of W, its own_columns of y.
// Invocation i holds a quad of row i of x and hands it round by a subgroup broadcast. Unrolled by hand: a private array
// with a run-time index costs a software driver more than the arithmetic.
// What costs there is not arithmetic but memory: a load is a loop over the invocations, and a parameter a gather, unless
// an earlier load of it dominates. So x comes in wide loads, and kernels read their parameters before they branch.
// Precondition: the workgroup of 8 lies in one subgroup.
const TALL: bool = TILE_M == 16u;
const_assert THREAD_N == 4u && (TILE_M == 8u || TALL) && TILE_N == 4u * WORKGROUP && WORKGROUP == 8u;

struct Sums { a: array<vec4<f32>, 8> }                            // [row of x], components: row of W
struct Four { a: Weights, b: Weights, c: Weights, d: Weights }  // a chunk of this invocation's rows of W

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
fn advance(sums: Sums, w: Four, x: Weights) -> Sums {
    var s = advance_quad(sums, mat4x4<f32>(w.a.v[0], w.b.v[0], w.c.v[0], w.d.v[0]), x.v[0]);
    s = advance_quad(s, mat4x4<f32>(w.a.v[1], w.b.v[1], w.c.v[1], w.d.v[1]), x.v[1]);
    s = advance_quad(s, mat4x4<f32>(w.a.v[2], w.b.v[2], w.c.v[2], w.d.v[2]), x.v[2]);
    s = advance_quad(s, mat4x4<f32>(w.a.v[3], w.b.v[3], w.c.v[3], w.d.v[3]), x.v[3]);
    s = advance_quad(s, mat4x4<f32>(w.a.v[4], w.b.v[4], w.c.v[4], w.d.v[4]), x.v[4]);
    s = advance_quad(s, mat4x4<f32>(w.a.v[5], w.b.v[5], w.c.v[5], w.d.v[5]), x.v[5]);
    s = advance_quad(s, mat4x4<f32>(w.a.v[6], w.b.v[6], w.c.v[6], w.d.v[6]), x.v[6]);
    return advance_quad(s, mat4x4<f32>(w.a.v[7], w.b.v[7], w.c.v[7], w.d.v[7]), x.v[7]);
}
