// A chunk that is decoded at once.
alias Held = Weights;
const HELD: bool = false;
fn held_at(row: u32, chunk: u32, zero: f32) -> Held { return values_at(row, chunk); }
fn held_quad(h: Held, i: u32) -> vec4<f32> { return h.v[i]; }
