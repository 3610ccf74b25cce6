//! What is measured on logits; all per row of `[rows, vocabulary]`.

/// `log(sum(exp(row)))`, shifted by the maximum.
fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(f64::from(v)));
    if max == f64::NEG_INFINITY && !row.iter().any(|v| v.is_nan()) {
        return max;
    }
    max + row.iter().map(|&v| (f64::from(v) - max).exp()).sum::<f64>().ln()
}

/// `-log softmax(logits)[target]` in nats for every row of `logits` `[targets, vocabulary]`. A target that
/// is not below `vocabulary` has probability 0 and so infinite loss.
pub fn cross_entropy(logits: &[f32], vocabulary: usize, targets: &[u32]) -> Vec<f32> {
    assert_eq!(
        logits.len(),
        targets.len() * vocabulary,
        "cross_entropy: logits is not [targets, vocabulary]"
    );
    let rows = logits.chunks_exact(vocabulary);
    let loss = |(row, &target): (&[f32], &u32)| match row.get(target as usize) {
        Some(&logit) => (log_sum_exp(row) - f64::from(logit)) as f32,
        None => f32::INFINITY,
    };
    rows.zip(targets).map(loss).collect()
}

/// `KL(softmax p || softmax q) = sum p * (log p - log q)` in nats for every row of two `[rows, vocabulary]`
/// matrices of logits. Results that rounding leaves below 0 are 0.
pub fn kl_divergence(p_logits: &[f32], q_logits: &[f32], vocabulary: usize) -> Vec<f32> {
    assert_eq!(p_logits.len(), q_logits.len(), "kl_divergence: lengths differ");
    let row = |(p, q): (&[f32], &[f32])| {
        let (p_sum, q_sum) = (log_sum_exp(p), log_sum_exp(q));
        let mut sum = 0.0;
        for (&p, &q) in p.iter().zip(q) {
            let log_p = f64::from(p) - p_sum;
            let probability = log_p.exp();
            // 0 * log 0 is 0 in the limit. NaN takes the sum.
            if probability != 0.0 {
                sum += probability * (log_p - (f64::from(q) - q_sum));
            }
        }
        if sum < 0.0 { 0.0 } else { sum as f32 }
    };
    p_logits.chunks_exact(vocabulary).zip(q_logits.chunks_exact(vocabulary)).map(row).collect()
}

/// Index of the first maximum; ties go to the lowest index, NaN is passed over. 0 when there is none.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = None;
    for (index, &value) in row.iter().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, max)| value > max) {
            best = Some((index, value));
        }
    }
    best.map_or(0, |(index, _)| index)
}
