// compare_direct: what cross_entropy, kl and argmax compute of z, with x as the distribution it is compared with, in three
// walks over a row instead of seven; for software drivers, where a workgroup and a reduction cost as much as a hundred
// elements. Formulas: kernel/kl.wgsl. Partition: one invocation per row.
// Preconditions: columns and strides are multiples of 4.
const PLAIN_FROM: f32 = 60.0;

// exp(a) * (exp(u) - 1 - u)
fn terms(a: vec4<f32>, u: vec4<f32>) -> vec4<f32> {
    let e = exp(a);
    let near = e * u * u * (0.5 + u * (0.16666667 + u * (0.041666667 + u * (0.0083333333
        + u * (0.0013888889 + u * 0.0001984127)))));
    return select(exp(a + u) - e * (1.0 + u), near, abs(u) < vec4<f32>(0.25));
}

fn log1p(v: f32) -> f32 {
    if v < 0.03 { return v * (1.0 - v * (0.5 - v * (0.33333333 - v * (0.25 - v * 0.2)))); }
    return log(1.0 + v);
}

fn total(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn largest_of(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups) * TILE_M + lane;
    if row >= params.m { return; }
    let x0 = row * (params.x_stride / 4u);
    let z0 = row * (params.z_stride / 4u);
    let quads = params.cols / 4u;
    // Of every fourth column: the largest x, the largest z and, where that was seen first, its column.
    var most = x_at(x0);
    var most_z = z_at(z0);
    var choice = vec4<u32>(0u, 1u, 2u, 3u);
    for (var i = 1u; i < quads; i++) {
        most = max(most, x_at(x0 + i));
        let v = z_at(z0 + i);
        let better = v > most_z;
        most_z = select(most_z, v, better);
        choice = select(choice, vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u), better);
    }
    let largest = max(largest_of(most), -3.4e38);
    let largest_z = largest_of(most_z);
    let top = max(largest_z, -3.4e38);
    let tied = select(vec4<u32>(0xffffffffu), choice, most_z == vec4<f32>(largest_z));
    best[row] = min(min(min(tied.x, tied.y), min(tied.z, tied.w)), params.cols - 1u);
    var sums = vec4<f32>();
    var sums_z = vec4<f32>();
    var weighted = vec4<f32>();
    for (var i = 0u; i < quads; i++) {
        let a = x_at(x0 + i);
        let b = z_at(z0 + i);
        let e = exp(a - largest);
        sums += e;
        sums_z += exp(b - top);
        weighted += e * (a - b);
    }
    let sum = total(sums);
    let sum_z = total(sums_z);
    let centre = total(weighted) / sum;
    let shifted = centre - (largest - top);
    let target_column = targets[row];
    cross_entropy[row] = (top - z_at(z0 + target_column / 4u)[target_column % 4u]) + log(sum_z);
    if shifted > PLAIN_FROM {
        kl[row] = shifted + log(sum_z) - log(sum);
        return;
    }
    var all = vec4<f32>();
    for (var i = 0u; i < quads; i++) {
        let a = x_at(x0 + i);
        all += terms(a - largest, centre - (a - z_at(z0 + i)));
    }
    kl[row] = log1p(total(all) / sum);
}
