// A run is as many groups as have their records in four words, which are one load. Precondition: the records of a row fill
// whole vec4, and so does what lies before them. Parameters come with them, not in the loop over a run.
struct Run { words: vec4<u32>, b: Biases }
fn run_span(chunks: u32) -> u32 { return 4u * PER_WORD * (params.group / CHUNK); }
fn run_at(row: u32, run: u32, span: u32) -> Run {
    return Run(scales[(FIRST_SCALE + row * (params.groups_per_row / PER_WORD)) / 4u + run], biases());
}
fn run_chunks() -> u32 { return params.group / CHUNK; }
fn run_factors(r: Run, record: u32) -> vec2<f32> { return factors_of(r.words[record / PER_WORD], record, r.b); }
fn run_zero(r: Run, record: u32) -> f32 { return zero_of(r.words[record / PER_WORD]); }
