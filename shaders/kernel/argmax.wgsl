// argmax: y[row] = index of the largest x[row, :], the lowest one on ties. Partition: one workgroup per row.
var<workgroup> best_value: array<f32, WORKGROUP>;
var<workgroup> best_index: array<u32, WORKGROUP>;

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let row = folded(group, groups);
    if row >= params.m { return; }
    var value = -3.4e38;
    var index = 0xffffffffu;
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        let candidate = x[row * params.x_stride + k];
        if candidate > value || index == 0xffffffffu { value = candidate; index = k; }
    }
    best_value[lane] = value;
    best_index[lane] = index;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width >>= 1u) {
        if lane < width {
            let v = best_value[lane + width];
            let i = best_index[lane + width];
            if i != 0xffffffffu && (best_index[lane] == 0xffffffffu || v > best_value[lane]
                || (v == best_value[lane] && i < best_index[lane])) {
                best_value[lane] = v;
                best_index[lane] = i;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u { y[row] = best_index[0]; }
}
