// The four columns of y that an invocation of a *_direct kernel owns: one after another, stored at once.
fn first_column(lane: u32) -> u32 { return 4u * lane; }

fn own_columns(first: u32) -> vec4<u32> {
    return min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(params.rows - 1u));
}

fn end_row(m: u32, first: u32, sums: vec4<f32>) {
    if m < params.m && first < params.rows { finish(m, first, sums); }
}

fn end_gated(m: u32, first: u32, gate: vec4<f32>, up: vec4<f32>) {
    if m < params.m && first < params.rows / 2u { finish_gated(m, first, gate, up); }
}

fn end_counts(m: u32, first: u32, sums: vec4<i32>, scales: vec4<f32>) {
    if m < params.m && first < params.rows { finish_i32(m, first, sums, scales); }
}
