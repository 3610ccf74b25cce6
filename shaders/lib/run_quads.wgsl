// A run is as many groups as have their records in four words, which are one load. Precondition: the records of a row fill
// whole vec4, and so does what lies before them.
alias Run = vec4<u32>;
fn run_span(chunks: u32) -> u32 { return 4u * PER_WORD * (params.group / CHUNK); }
fn run_at(row: u32, run: u32, span: u32) -> Run {
    return scales[(FIRST_SCALE + row * (params.groups_per_row / PER_WORD)) / 4u + run];
}
fn run_factors(r: Run, chunk: u32) -> vec2<f32> {
    let index = chunk / (params.group / CHUNK);
    return factors_of(r[index / PER_WORD], index);
}
