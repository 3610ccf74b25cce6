// Reductions over a workgroup by a tree in workgroup memory; WORKGROUP is a power of two.
// Every invocation must call them (they hold barriers) and every one gets the result.
var<workgroup> partials: array<f32, WORKGROUP>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
    partials[lane] = value;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width >>= 1u) {
        if lane < width { partials[lane] += partials[lane + width]; }
        workgroupBarrier();
    }
    let total = partials[0];
    workgroupBarrier();
    return total;
}

fn workgroup_max(value: f32, lane: u32) -> f32 {
    partials[lane] = value;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width >>= 1u) {
        if lane < width { partials[lane] = max(partials[lane], partials[lane + width]); }
        workgroupBarrier();
    }
    let largest = partials[0];
    workgroupBarrier();
    return largest;
}
