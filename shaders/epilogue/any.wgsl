// y = what params.ending says, the bias added to acc first where there is one: 0 acc, 1 f(acc), 2 residual + acc,
// 3 residual * acc. One pipeline for all ends of a product, where compiling costs more than choosing.
fn finish(m: u32, n: u32, acc: Sum) {
    let at = sum_at(m, n);
    let sum = biased(n, acc);
    var result = sum;
    if params.ending == 1u { result = activated(sum); }
    if params.ending >= 2u {
        let other = residual_at(at);
        result = select(other * sum, other + sum, params.ending == 2u);
    }
    y_put(at, result);
}
