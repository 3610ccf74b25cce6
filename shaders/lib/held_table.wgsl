// A chunk of indices that stays packed until a quad of it is wanted.
alias Held = Fields;
const HELD: bool = true;
fn held_at(row: u32, chunk: u32, zero: f32) -> Held { return load_fields(row * params.row_words + chunk * BITS); }
fn held_quad(h: Held, i: u32) -> vec4<f32> { return quad_values(four_fields(h, i)); }
