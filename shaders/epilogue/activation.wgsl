// y = f(acc), the bias added first where there is one
fn finish(m: u32, n: u32, acc: Sum) { y_put(sum_at(m, n), activated(biased(n, acc))); }
