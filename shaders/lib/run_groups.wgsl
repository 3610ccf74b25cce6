// A run is a group, whose scale is loaded once, or the whole row.
alias Run = vec2<f32>;
fn run_span(chunks: u32) -> u32 { return select(params.group / CHUNK, chunks, params.groups_per_row <= 1u); }
fn run_at(row: u32, run: u32, span: u32) -> Run { return factors_at(row, run * span * CHUNK); }
fn run_factors(r: Run, chunk: u32) -> vec2<f32> { return r; }
