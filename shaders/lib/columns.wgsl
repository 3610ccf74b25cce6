// The four columns of y that an invocation of a *_direct kernel owns (of eight, the first or the last four): WORKGROUP apart, each stored by itself.
fn first_column(lane: u32) -> u32 { return lane; }

fn own_columns(first: u32) -> vec4<u32> {
    return min(vec4<u32>(first, first + WORKGROUP, first + 2u * WORKGROUP, first + 3u * WORKGROUP), vec4<u32>(params.rows - 1u));
}

fn end_row(m: u32, first: u32, sums: vec4<f32>) {
    if m >= params.m { return; }
    for (var j = 0u; j < 4u; j++) {
        let n = first + j * WORKGROUP;
        if n < params.rows { finish(m, n, sums[j]); }
    }
}

// Of four columns of a gate and of up.
fn end_gated(m: u32, first: u32, gate: vec4<f32>, up: vec4<f32>) {
    if m >= params.m { return; }
    for (var j = 0u; j < 4u; j++) {
        let n = first + j * WORKGROUP;
        if n < params.rows / 2u { finish_gated(m, n, gate[j], up[j]); }
    }
}

fn end_counts(m: u32, first: u32, sums: vec4<i32>, scales: vec4<f32>) {
    if m >= params.m { return; }
    for (var j = 0u; j < 4u; j++) {
        let n = first + j * WORKGROUP;
        if n < params.rows { finish_i32(m, n, sums[j], scales[j]); }
    }
}
