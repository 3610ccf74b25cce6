// Values of a chunk whose scales differ within it, or that has none: the weights themselves.
fn values_at(row: u32, chunk: u32) -> Weights { return weights_at(row, chunk); }
