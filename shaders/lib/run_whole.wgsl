// All of a row is one run.
alias Run = f32;
fn run_span(chunks: u32) -> u32 { return chunks; }
fn run_at(row: u32, run: u32, span: u32) -> Run { return 1.0; }
fn run_chunks() -> u32 { return 0xffffffffu; }
fn run_factors(r: Run, record: u32) -> vec2<f32> { return vec2<f32>(1.0); }
fn run_zero(r: Run, record: u32) -> f32 { return 0.0; }
