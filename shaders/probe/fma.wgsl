// fma: 8 independent chains of vec4 multiply-adds in registers: the f32 rate that a kernel can reach at most.
// The factor is read from memory, so that no compiler knows it. v = v / 2 + c converges to 2 c.
struct Params { count: u32, turns: u32, one: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let at = (group.y * params.stride + group.x) * 64u + lane;
    if at >= params.count { return; }
    let f = vec4<f32>(0.5 * f32(params.one));
    let c = x[at];
    var a0 = c; var a1 = c + 1.0; var a2 = c + 2.0; var a3 = c + 3.0;
    var a4 = c + 4.0; var a5 = c + 5.0; var a6 = c + 6.0; var a7 = c + 7.0;
    for (var turn = 0u; turn < params.turns; turn++) {
        a0 = fma(a0, f, c); a1 = fma(a1, f, c); a2 = fma(a2, f, c); a3 = fma(a3, f, c);
        a4 = fma(a4, f, c); a5 = fma(a5, f, c); a6 = fma(a6, f, c); a7 = fma(a7, f, c);
    }
    y[at] = 0.125 * (((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)));
}
