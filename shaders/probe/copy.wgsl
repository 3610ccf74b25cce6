// copy: y = x, 16 bytes per invocation: the bandwidth that a kernel can reach at most. Partition: one invocation per vector.
struct Params { count: u32, turns: u32, one: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.y * params.stride + id.x;
    if at < params.count { y[at] = x[at]; }
}
