// The same reductions with subgroup operations: one value per subgroup goes through workgroup memory.
var<workgroup> partials: array<f32, WORKGROUP>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
    let own = subgroupAdd(value);
    if subgroup_lane == 0u { partials[subgroup_index] = own; }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < subgroup_count; i++) { total += partials[i]; }
    workgroupBarrier();
    return total;
}

fn workgroup_max(value: f32, lane: u32) -> f32 {
    let own = subgroupMax(value);
    if subgroup_lane == 0u { partials[subgroup_index] = own; }
    workgroupBarrier();
    var largest = partials[0];
    for (var i = 1u; i < subgroup_count; i++) { largest = max(largest, partials[i]); }
    workgroupBarrier();
    return largest;
}
