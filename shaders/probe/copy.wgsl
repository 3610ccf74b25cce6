// copy: y = x: the bandwidth that a kernel can reach at most. Partition: one vector of 16 bytes per invocation.
struct Params { count: u32, turns: u32, one: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let at = (group.y * params.stride + group.x) * 64u + lane;
    if at < params.count { y[at] = x[at]; }
}
