// Values of a chunk whose scales differ within it, or that has none: the weights themselves. All of a row is one run.
alias Run = f32;
fn values_at(row: u32, chunk: u32) -> Weights { return weights_at(row, chunk); }
fn run_span(chunks: u32) -> u32 { return chunks; }
fn run_at(row: u32, run: u32, span: u32) -> Run { return 1.0; }
fn run_factors(r: Run, chunk: u32) -> vec2<f32> { return vec2<f32>(1.0); }
