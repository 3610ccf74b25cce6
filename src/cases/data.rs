//! Deterministic test data: the same on every machine and in every run.

use crate::graph::Token;

/// A small counter-based generator (SplitMix64, Steele et al. 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// Uniform in [-0.5, 0.5).
    fn unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 / (1u32 << 24) as f32 - 0.5
    }
}

/// `n` bell-shaped values of about unit spread.
pub(super) fn values(n: usize, seed: usize) -> Vec<f32> {
    let mut random = Random::new(seed as u64);
    (0..n).map(|_| (0..12).map(|_| random.unit()).sum()).collect()
}

/// `n` values whose magnitude grows by `rows` of `cols`, so that every row has a scale of its own.
pub(super) fn weights(rows: usize, cols: usize, seed: usize) -> Vec<f32> {
    let mut w = values(rows * cols, seed);
    for (row, w) in w.chunks_mut(cols).enumerate() {
        w.iter_mut().for_each(|v| *v *= 0.02 * (1.0 + (row % 7) as f32));
    }
    w
}

/// Rows of the device's token buffer: id, sequence, position, begin, end, segment, two reserved.
pub(super) fn token_rows(tokens: &[Token]) -> Vec<[u32; 8]> {
    let batch = crate::graph::Batch::new(tokens.to_vec(), Vec::new());
    let rows = tokens.iter().zip(batch.spans());
    rows.map(|(t, (begin, end))| [t.id, t.sequence, t.position, begin, end, t.segment, 0, 0]).collect()
}

/// Tokens of sequences 0, 1, …, each `(first position, count)`, of segments 0 and 1 by turns.
pub(super) fn sequences(parts: &[(u32, u32)]) -> Vec<Token> {
    let of = |(sequence, &(first, count)): (usize, &(u32, u32))| {
        (first..first + count).map(move |position| Token {
            id: position * 7 + sequence as u32,
            sequence: sequence as u32,
            position,
            segment: position / 3 % 2,
        })
    };
    parts.iter().enumerate().flat_map(of).collect()
}

/// `[rows, cols]` spread to rows `stride` apart; `fill` between them.
pub(super) fn strided(values: &[f32], cols: usize, stride: usize, fill: u32) -> Vec<u32> {
    let mut words = vec![fill; values.len() / cols.max(1) * stride];
    for (to, from) in words.chunks_mut(stride).zip(values.chunks(cols)) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_bits());
    }
    words
}
