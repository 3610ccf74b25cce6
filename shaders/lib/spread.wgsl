// What invocation i of a subgroup holds, handed to all. The index of a broadcast must be a constant, hence the switch,
// which is gone once a caller with a constant i is compiled. Precondition: subgroups of at least 8, i < 8.
fn spread(v: vec4<f32>, i: u32) -> vec4<f32> {
    var result: vec4<f32>;
    switch i {
        case 0u: { result = subgroupBroadcast(v, 0u); }
        case 1u: { result = subgroupBroadcast(v, 1u); }
        case 2u: { result = subgroupBroadcast(v, 2u); }
        case 3u: { result = subgroupBroadcast(v, 3u); }
        case 4u: { result = subgroupBroadcast(v, 4u); }
        case 5u: { result = subgroupBroadcast(v, 5u); }
        case 6u: { result = subgroupBroadcast(v, 6u); }
        default: { result = subgroupBroadcast(v, 7u); }
    }
    return result;
}
