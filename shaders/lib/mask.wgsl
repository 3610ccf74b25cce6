// Which positions of its sequence a row of the batch sees: up to its own, params.window of them at most; all where
// params.window is 0, and then the rows up to the token's `end` are the rest of the sequence.
struct Seen { first: u32, end: u32 }

fn seen_by(t: u32) -> Seen {
    let position = tokens[t].position;
    if params.window == 0u { return Seen(0u, position + tokens[t].end - t); }
    return Seen(position + 1u - min(params.window, position + 1u), position + 1u);
}
