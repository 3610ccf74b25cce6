// A chunk that stays packed until a quad of it is wanted.
alias Held = Chunk;
const HELD: bool = true;
fn held_at(row: u32, chunk: u32, zero: f32) -> Held { return chunk_at(row, chunk, zero); }
fn held_quad(h: Held, i: u32) -> vec4<f32> { return float_quad(h, i); }
