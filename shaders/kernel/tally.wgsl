// tally: y[4 slot + 0..4] = over all rows the sums of cross-entropy and divergence, and how many rows have the target and
// the baseline's choice as their most probable token. Partition: one workgroup.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    if folded(group, groups) > 0u { return; }
    var loss = 0.0;
    var divergence = 0.0;
    var correct = 0.0;
    var agreeing = 0.0;
    for (var row = lane; row < params.m; row += WORKGROUP) {
        loss += cross_entropy[row];
        divergence += kl[row];
        correct += select(0.0, 1.0, best[row] == targets[row]);
        agreeing += select(0.0, 1.0, best[row] == other_best[row]);
    }
    loss = workgroup_sum(loss, lane);
    divergence = workgroup_sum(divergence, lane);
    correct = workgroup_sum(correct, lane);
    agreeing = workgroup_sum(agreeing, lane);
    if lane == 0u {
        y[4u * params.slot] = loss;
        y[4u * params.slot + 1u] = divergence;
        y[4u * params.slot + 2u] = correct;
        y[4u * params.slot + 3u] = agreeing;
    }
}
