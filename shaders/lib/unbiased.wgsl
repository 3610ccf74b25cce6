// A sum without a bias.
fn biased(n: u32, acc: Sum) -> Sum { return acc; }
