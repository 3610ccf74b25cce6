//! Attention in parts, and what joins them.

use super::{SETTINGS, flat};
use crate::cases::data::{self, strided};
use crate::cases::launch::{Launch, POISON, STRAY};
use crate::cases::{ONE_OP, Outcome, Table, Tolerance};
use crate::error::invalid;
use crate::shader::{Kernel, Tile, Variant};

/// Words of a row of the buffer of parts.
fn partial_stride(head_dim: usize) -> usize {
    (head_dim.next_multiple_of(4) + 4).next_multiple_of(32)
}

/// What the parts of a head make of the sum of its weights; (largest score, sum) stand at `quad` of each.
fn sum_of_weights(parts: &[u32], stride: usize, quad: usize) -> f32 {
    let parts = || parts.chunks(stride).map(|p| (f32::from_bits(p[quad]), f32::from_bits(p[quad + 1])));
    let largest = parts().map(|(top, _)| top).fold(f32::MIN, f32::max);
    parts().map(|(top, sum)| f64::from(top - largest).exp() * f64::from(sum)).sum::<f64>() as f32
}

/// The same of the scores themselves.
fn sum_of_exponentials(scores: &[f32]) -> f32 {
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    scores.iter().map(|score| f64::from(score - largest).exp()).sum::<f64>() as f32
}

pub(in crate::cases) fn in_parts(table: &mut Table) {
    for setting in SETTINGS {
        // One part; some of which short sequences fill but a few; more than any sequence has blocks.
        for parts in [1, 3, 70] {
            let shape = format!("{}, {parts} parts", setting.shape());
            let variant = format!("head_dim {}", setting.head_dim);
            table.add(variant, shape, Tolerance::Nmse(ONE_OP), move |gpu| {
                let (q, width, stride) =
                    (setting.queries(), setting.heads().width(), partial_stride(setting.head_dim));
                let (keys, cache) = (setting.cache(32), setting.cache(33));
                let (x_stride, y_stride, offset) = (width + 7, width + 5, 4);
                let tokens = setting.tokens();
                let rows = tokens.len() * setting.heads;
                let mut launch = setting.launch(gpu, (&q, &keys, &cache), offset, x_stride)?;
                launch.output("y", tokens.len() * y_stride)?.output("partial", rows * parts * stride)?;
                let mut params = setting.params(x_stride, offset, y_stride).to_vec();
                params.extend([("parts", parts as u32), ("partial_stride", stride as u32)]);
                let head_dim = |variant: Variant| variant.constant("HEAD_DIM", setting.head_dim as u32);
                let tile = Tile::attention(gpu.class());
                let part = head_dim(Variant::plain(Kernel::AttentionPart, tile));
                launch.dispatch(&part, &[], &params, (rows * parts) as u64)?;
                let quad = setting.head_dim.next_multiple_of(4);
                launch.elementwise(&head_dim(flat(Kernel::AttentionJoin)), &params, rows * quad / 4)?;
                let [got, partial] = &launch.finish()?[..] else { invalid!("two outputs were asked for") };
                let want = setting.attention(&q, &keys, &cache);
                // Parts that all saw every position would make the same y: the sums of their weights tell.
                let weights: Vec<f32> =
                    partial.chunks(parts * stride).map(|row| sum_of_weights(row, stride, quad)).collect();
                let scores = setting.scores(&q, &keys);
                let truth: Vec<f32> = scores.chunks(setting.context).map(sum_of_exponentials).collect();
                let of_rows = |y: &[f32]| strided(y, width, y_stride, POISON);
                let of_sums = |sums: &[f32]| strided(sums, setting.heads, y_stride, POISON);
                let got = [got.clone(), of_sums(&weights)].concat();
                Ok(Outcome::floats(got, [of_rows(&want), of_sums(&truth)].concat(), y_stride))
            });
        }
    }
}

pub(in crate::cases) fn join(table: &mut Table) {
    for (m, heads, head_dim, parts) in
        [(1, 1, 4, 1), (5, 3, 10, 7), (1, 32, 128, 16), (13, 2, 80, 2), (1, 7, 1, 32)]
    {
        let shape = format!("[{m}, {heads} heads of {head_dim}], {parts} parts");
        table.add(format!("head_dim {head_dim}"), shape, Tolerance::Nmse(ONE_OP), move |gpu| {
            let (stride, quads) = (partial_stride(head_dim), head_dim.next_multiple_of(4));
            let (width, y_stride) = (heads * head_dim, heads * head_dim + 5);
            let rows = m * heads;
            let (values, numbers) =
                (data::values(rows * parts * quads, 61), data::values(rows * parts * 2, 62));
            let mut partial = vec![f32::from_bits(STRAY); rows * parts * stride];
            let mut want = Vec::with_capacity(m * width);
            for row in 0..rows {
                let own = row * parts..(row + 1) * parts;
                // Every third part but the first has no positions.
                let of_part = |p: usize| match (p - own.start) % 3 {
                    2 => (-3.0e38f32, 0.0f32),
                    _ => (20.0 * numbers[2 * p], 0.5 + numbers[2 * p + 1].abs()),
                };
                let largest = own.clone().map(|p| of_part(p).0).fold(f32::MIN, f32::max);
                let weight = |p: usize| f64::from(of_part(p).0 - largest).exp();
                let sum: f64 = own.clone().map(|p| weight(p) * f64::from(of_part(p).1)).sum();
                for p in own.clone() {
                    let (to, (top, sum)) = (&mut partial[p * stride..][..quads + 4], of_part(p));
                    let of_values = &values[p * quads..][..quads];
                    to[..quads].copy_from_slice(of_values);
                    if sum == 0.0 {
                        to[..quads].fill(0.0);
                    }
                    to[quads..].copy_from_slice(&[top, sum, 0.0, 0.0]);
                }
                want.extend((0..head_dim).map(|d| {
                    let terms = own.clone().map(|p| weight(p) * f64::from(partial[p * stride + d]));
                    (terms.sum::<f64>() / sum) as f32
                }));
            }
            let mut launch = Launch::new(gpu);
            launch.input("partial", &partial)?.output("y", m * y_stride)?;
            let params = [
                ("m", m as u32),
                ("heads", heads as u32),
                ("parts", parts as u32),
                ("partial_stride", stride as u32),
                ("y_stride", y_stride as u32),
            ];
            let variant = flat(Kernel::AttentionJoin).constant("HEAD_DIM", head_dim as u32);
            let got = launch.elementwise(&variant, &params, rows * quads / 4)?.single()?;
            Ok(Outcome::floats(got, strided(&want, width, y_stride, POISON), y_stride))
        });
    }
}
