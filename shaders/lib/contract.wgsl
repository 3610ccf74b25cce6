// A chunk is 32 consecutive weights of one row, the unit in which formats decode and kernels advance.
const CHUNK: u32 = 32u;

struct Codes { q: array<vec4<i32>, 8> }    // 32 integer codes, zero-point removed, in i8 range
struct Weights { v: array<vec4<f32>, 8> }  // 32 weights
struct Bits { b: array<vec4<u32>, 8> }     // the same weights as IEEE 754 binary32 bit patterns

// Position of an invocation in a grid that may be folded from one dimension into two.
fn folded(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

// A token of the batch: vocabulary id, KV-cache slot, position, the rows [begin, end) of its sequence, and its segment.
struct Token { id: u32, sequence: u32, position: u32, begin: u32, end: u32, segment: u32, reserved_a: u32, reserved_b: u32 }
