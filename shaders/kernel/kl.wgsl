// kl: y[row] = KL(softmax(x) || softmax(z)) in nats. Partition: one workgroup per row.
// With d = x - z (exact where the logits are close), p = softmax(x), c = sum p d and u = c - d,
// KL = log(1 + sum p (exp(u) - 1 - u)): every term is >= 0, so small divergences keep their digits.
// exp(u) could overflow where p vanishes, so p exp(u) is one exponential; where the sum itself would overflow,
// the divergence is large and the plain formula serves.
const PLAIN_FROM: f32 = 60.0;

// exp(a) * (exp(u) - 1 - u)
fn term(a: f32, u: f32) -> f32 {
    if abs(u) < 0.25 {
        return exp(a) * u * u * (0.5 + u * (0.16666667 + u * (0.041666667 + u * (0.0083333333 + u * (0.0013888889 + u * 0.0001984127)))));
    }
    return exp(a + u) - exp(a) * (1.0 + u);
}

fn log1p(v: f32) -> f32 {
    if v < 0.03 { return v * (1.0 - v * (0.5 - v * (0.33333333 - v * (0.25 - v * 0.2)))); }
    return log(1.0 + v);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    let first = row * params.x_stride;
    let other = row * params.z_stride;
    var largest = -3.4e38;
    var largest_z = -3.4e38;
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        largest = max(largest, x[first + k]);
        largest_z = max(largest_z, z[other + k]);
    }
    largest = workgroup_max(largest, lane);
    largest_z = workgroup_max(largest_z, lane);
    var sum = 0.0;
    var sum_z = 0.0;
    var weighted = 0.0;
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        let e = exp(x[first + k] - largest);
        sum += e;
        sum_z += exp(z[other + k] - largest_z);
        weighted += e * (x[first + k] - z[other + k]);
    }
    sum = workgroup_sum(sum, lane);
    sum_z = workgroup_sum(sum_z, lane);
    let centre = workgroup_sum(weighted, lane) / sum;
    let shifted = centre - (largest - largest_z);
    let plain = shifted > PLAIN_FROM;
    var total = 0.0;
    for (var k = lane; k < params.cols && !plain; k += WORKGROUP) {
        total += term(x[first + k] - largest, centre - (x[first + k] - z[other + k]));
    }
    total = workgroup_sum(total, lane) / sum;
    if lane == 0u { y[row] = select(log1p(total), shifted + log(sum_z) - log(sum), plain); }
}
