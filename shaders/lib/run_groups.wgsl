// A run is a group, whose scale is loaded once, or the whole row.
struct Run { factors: vec2<f32>, zero: f32 }
fn run_span(chunks: u32) -> u32 { return select(params.group / CHUNK, chunks, params.groups_per_row <= 1u); }
fn run_at(row: u32, run: u32, span: u32) -> Run {
    let chunk = run * span;
    return Run(factors_at(row, chunk * CHUNK), zero_at(row, chunk));
}
fn run_chunks() -> u32 { return 0xffffffffu; }
fn run_factors(r: Run, record: u32) -> vec2<f32> { return r.factors; }
fn run_zero(r: Run, record: u32) -> f32 { return r.zero; }
