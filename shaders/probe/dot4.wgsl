// dot4: 8 independent sums of dot4I8Packed in registers: the rate of 8-bit products that a kernel can reach at most.
// The operands are read from memory and turn with every sum, so that none is known or the same twice.
struct Params { count: u32, turns: u32, one: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let at = (group.y * params.stride + group.x) * 64u + lane;
    if at >= params.count { return; }
    let w = x[at];
    var s0 = 0i; var s1 = 0i; var s2 = 0i; var s3 = 0i;
    var s4 = 0i; var s5 = 0i; var s6 = 0i; var s7 = 0i;
    var v = w.x;
    for (var turn = 0u; turn < params.turns; turn++) {
        s0 += dot4I8Packed(v, w.x); s1 += dot4I8Packed(v, w.y);
        s2 += dot4I8Packed(v, w.z); s3 += dot4I8Packed(v, w.w);
        v ^= w.y;
        s4 += dot4I8Packed(v, w.x); s5 += dot4I8Packed(v, w.y);
        s6 += dot4I8Packed(v, w.z); s7 += dot4I8Packed(v, w.w);
        v ^= w.z;
    }
    y[at] = vec4<u32>(bitcast<u32>(s0 + s4), bitcast<u32>(s1 + s5), bitcast<u32>(s2 + s6), bitcast<u32>(s3 + s7));
}
