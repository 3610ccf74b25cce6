// A chunk as it is packed.
struct Chunk { f: Fields, zero: f32 }

fn chunk_at(row: u32, chunk: u32, zero: f32) -> Chunk {
    return Chunk(load_fields(row * params.row_words + chunk * BITS), zero);
}
