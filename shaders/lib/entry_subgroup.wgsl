// Entry point of the subgroup variant: keeps the subgroup's place for lib/reduce_subgroup.wgsl.
var<private> subgroup_index: u32;
var<private> subgroup_count: u32;
var<private> subgroup_lane: u32;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) index: u32,
    @builtin(num_subgroups) count: u32,
    @builtin(subgroup_invocation_id) position: u32,
) {
    subgroup_index = index;
    subgroup_count = count;
    subgroup_lane = position;
    run(lane, group, groups);
}
