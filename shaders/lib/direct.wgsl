// Register tile of the *_direct kernels: an invocation owns 8 rows of x times 4 rows of W, WORKGROUP apart.
// Invocation i holds quad i of the chunk of every row of x and hands it round by a subgroup broadcast; the
// index of a broadcast must be a constant, so the eight quads are written out. (Unrolled by hand throughout: a
// private array with a run-time index costs a software driver more than the arithmetic.)
// Precondition: the workgroup of 8 lies in one subgroup.
const_assert TILE_M == 8u && THREAD_N == 4u && TILE_N == 4u * WORKGROUP && WORKGROUP == 8u;

struct Sums { a: array<vec4<f32>, 8> }  // [row of x], components: row of W
struct Quads { v: array<vec4<f32>, 8> } // [row of x], this invocation's quad

fn sums_of(s: vec4<f32>, w: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    return s + vec4<f32>(dot(w[0], v), dot(w[1], v), dot(w[2], v), dot(w[3], v));
}

fn advance_0(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 0u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 0u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 0u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 0u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 0u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 0u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 0u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 0u));
    return s;
}

fn advance_1(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 1u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 1u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 1u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 1u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 1u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 1u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 1u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 1u));
    return s;
}

fn advance_2(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 2u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 2u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 2u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 2u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 2u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 2u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 2u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 2u));
    return s;
}

fn advance_3(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 3u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 3u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 3u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 3u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 3u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 3u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 3u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 3u));
    return s;
}

fn advance_4(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 4u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 4u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 4u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 4u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 4u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 4u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 4u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 4u));
    return s;
}

fn advance_5(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 5u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 5u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 5u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 5u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 5u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 5u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 5u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 5u));
    return s;
}

fn advance_6(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 6u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 6u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 6u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 6u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 6u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 6u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 6u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 6u));
    return s;
}

fn advance_7(sums: Sums, w: mat4x4<f32>, x: Quads) -> Sums {
    var s = sums;
    s.a[0] = sums_of(s.a[0], w, subgroupBroadcast(x.v[0], 7u));
    s.a[1] = sums_of(s.a[1], w, subgroupBroadcast(x.v[1], 7u));
    s.a[2] = sums_of(s.a[2], w, subgroupBroadcast(x.v[2], 7u));
    s.a[3] = sums_of(s.a[3], w, subgroupBroadcast(x.v[3], 7u));
    s.a[4] = sums_of(s.a[4], w, subgroupBroadcast(x.v[4], 7u));
    s.a[5] = sums_of(s.a[5], w, subgroupBroadcast(x.v[5], 7u));
    s.a[6] = sums_of(s.a[6], w, subgroupBroadcast(x.v[6], 7u));
    s.a[7] = sums_of(s.a[7], w, subgroupBroadcast(x.v[7], 7u));
    return s;
}

// Adds the products of one chunk.
fn advance(sums: Sums, a: Weights, b: Weights, c: Weights, d: Weights, x: Quads) -> Sums {
    var s = sums;
    s = advance_0(s, mat4x4<f32>(a.v[0], b.v[0], c.v[0], d.v[0]), x);
    s = advance_1(s, mat4x4<f32>(a.v[1], b.v[1], c.v[1], d.v[1]), x);
    s = advance_2(s, mat4x4<f32>(a.v[2], b.v[2], c.v[2], d.v[2]), x);
    s = advance_3(s, mat4x4<f32>(a.v[3], b.v[3], c.v[3], d.v[3]), x);
    s = advance_4(s, mat4x4<f32>(a.v[4], b.v[4], c.v[4], d.v[4]), x);
    s = advance_5(s, mat4x4<f32>(a.v[5], b.v[5], c.v[5], d.v[5]), x);
    s = advance_6(s, mat4x4<f32>(a.v[6], b.v[6], c.v[6], d.v[6]), x);
    s = advance_7(s, mat4x4<f32>(a.v[7], b.v[7], c.v[7], d.v[7]), x);
    return s;
}
