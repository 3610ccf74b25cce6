// y = acc, plus the bias where there is one
fn finish(m: u32, n: u32, acc: Sum) { y_put(sum_at(m, n), biased(n, acc)); }
