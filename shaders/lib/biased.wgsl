// A sum with its bias.
fn biased(n: u32, acc: Sum) -> Sum { return acc + bias[sum_at(0u, n)]; }
