// A run is the 256 weights that share a record.
alias Run = Record;
fn run_span(chunks: u32) -> u32 { return 8u; }
fn run_at(row: u32, run: u32, span: u32) -> Run { return record_of(row * params.groups_per_row + run); }
fn run_chunks() -> u32 { return 1u; }
fn run_factors(r: Run, record: u32) -> vec2<f32> { return vec2<f32>(factor_of(r, record).x, 1.0); }
fn run_minimum(r: Run, record: u32) -> f32 { return factor_of(r, record).y; }
fn run_zero(r: Run, record: u32) -> f32 { return 0.0; }
