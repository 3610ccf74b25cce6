// A format without a table to load.
fn prepare(lane: u32) {}
