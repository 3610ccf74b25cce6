//! Dynamic quantization of activations, per row and per sequence.

use super::compare::to_words;
use super::data::{sequences, strided, token_rows, values};
use super::launch::{Device, Launch, POISON, STRAY};
use super::{Outcome, Table, Tolerance};
use crate::error::{Result, invalid};
use crate::format::{ActivationFormat, ActivationScope, QuantizedActivations, quantize_activations};
use crate::graph::{Batch, Token};
use crate::reference;
use crate::shader::{Kernel, Tile, Variant};

/// Sequences as (first position, tokens), and columns.
const SHAPES: [(&[(u32, u32)], usize); 6] = [
    (&[(0, 3), (5, 1), (2, 4)], 37),
    (&[(0, 1)], 1),
    (&[(0, 5)], 7),
    (&[(3, 1), (0, 2)], 172),
    (&[(0, 40), (0, 25)], 64),
    (&[(0, 133), (7, 2)], 130),
];

fn rows(parts: &[(u32, u32)]) -> usize {
    parts.iter().map(|p| p.1 as usize).sum()
}

/// Rows of very different magnitudes, one of zeros, and values at ties of int8.
fn activations(rows: usize, cols: usize) -> Vec<f32> {
    let mut x = values(rows * cols, rows + cols);
    for (row, x) in x.chunks_mut(cols).enumerate() {
        let factor = [1.0, 1e-3, 50.0, 0.0, 1e20, 1e-20][row % 6];
        x.iter_mut().for_each(|v| *v *= factor);
        if row % 6 == 0 {
            x.iter_mut().step_by(2).for_each(|v| *v = (*v * 8.0).round() + 0.5);
            x[0] = 127.0;
        }
    }
    x
}

pub(super) fn absmax(table: &mut Table) {
    let kernel = table.kernel;
    let mut shapes: Vec<(usize, usize, &str)> = SHAPES.iter().map(|(p, cols)| (rows(p), *cols, "")).collect();
    shapes.push((65_600, 3, " folded"));
    shapes.push((524_300, 8, " folded eightfold"));
    for (rows, cols, label) in shapes {
        if kernel.row().direct && cols % 8 != 0 {
            continue;
        }
        let stride = cols.next_multiple_of(8) + 8;
        table.add("", format!("[{rows}, {cols}]{label}"), Tolerance::Exact, move |gpu| {
            let x = activations(rows, cols);
            let mut launch = Launch::new(gpu);
            launch.input("x", &strided(&x, cols, stride, STRAY))?.output("maxima", rows)?;
            let params = [("m", rows as u32), ("cols", cols as u32), ("x_stride", stride as u32)];
            let got = launch.rowwise(kernel, &params, rows)?.single()?;
            let max = |row: &[f32]| row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let want: Vec<f32> = x.chunks(cols).map(max).collect();
            Ok(Outcome::floats(got, to_words(&want), 0))
        });
    }
}

/// Smallest and largest element of every row, and 0.
fn ranges(x: &[f32], cols: usize) -> Vec<[f32; 2]> {
    let range = |row: &[f32]| row.iter().fold([0.0f32; 2], |[low, high], v| [low.min(*v), high.max(*v)]);
    x.chunks(cols).map(range).collect()
}

pub(super) fn row_range(table: &mut Table) {
    for (parts, cols) in SHAPES {
        let rows = rows(parts);
        table.add("", format!("[{rows}, {cols}]"), Tolerance::Exact, move |gpu| {
            let x = activations(rows, cols);
            let mut launch = Launch::new(gpu);
            launch.input("x", &strided(&x, cols, cols + 3, STRAY))?.output("ranges", 2 * rows)?;
            let params = [("m", rows as u32), ("cols", cols as u32), ("x_stride", cols as u32 + 3)];
            let got = launch.rowwise(Kernel::RowRange, &params, rows)?.single()?;
            // A zero has no sign here.
            let got: Vec<f32> = got.into_iter().map(|word| f32::from_bits(word) + 0.0).collect();
            Ok(Outcome::dense(&got, ranges(&x, cols).as_flattened(), 2))
        });
    }
}

/// What the quantize kernels give: packed codes `[rows, words]` and a scale per row.
fn on_device(
    gpu: &Device,
    kernel: Kernel,
    x: &[f32],
    cols: usize,
    tokens: &[Token],
    format: ActivationFormat,
    fields: u8,
) -> Result<(Vec<u32>, Vec<f32>)> {
    let rows = tokens.len();
    // Rows of x, in words of four codes, and of codes, narrow ones in whole vec4.
    let words = cols.next_multiple_of(32) / 4;
    let of_codes = if fields == 8 { words } else { words.div_ceil(32 / usize::from(fields)) * 4 };
    let ranges = ranges(x, cols);
    let maxima: Vec<f32> = x.chunks(cols).map(|row| row.iter().fold(0.0f32, |m, v| m.max(v.abs()))).collect();
    let mut launch = Launch::new(gpu);
    // The kernel of rows reads whole chunks.
    let (x, x_stride) = match kernel.row().direct {
        true => {
            let padded: Vec<f32> = strided(x, cols, words * 4, 0).into_iter().map(f32::from_bits).collect();
            (strided(&padded, words * 4, words * 4 + 8, STRAY), words * 4 + 8)
        }
        false => (strided(x, cols, cols + 3, STRAY), cols + 3),
    };
    launch
        .input("x", &x)?
        .input("maxima", &maxima)?
        .input("ranges", &ranges)?
        .input("tokens", &token_rows(tokens))?;
    let texels = launch.output_codes("y", kernel, rows * of_codes)?;
    launch.output("x_scale", rows)?;
    let mut params = vec![
        ("m", rows as u32),
        ("cols", cols as u32),
        ("x_stride", x_stride as u32),
        ("y_stride", of_codes as u32),
    ];
    let tile = if kernel.row().direct { Tile::rows() } else { Tile::reduction(gpu.class()) };
    let variant = match format {
        ActivationFormat::Int { bits, scope } => {
            params.push(("q_max", (1 << (bits - 1)) - 1));
            let per_tensor = u32::from(scope == ActivationScope::Tensor);
            let variant = Variant::plain(kernel, tile).constant("PER_TENSOR", per_tensor);
            match kernel {
                Kernel::QuantizeDirect => Variant { texels, ..variant.constant("X_BITS", fields.into()) },
                _ => variant,
            }
        }
        _ => Variant::plain(kernel, tile),
    };
    let groups = rows.div_ceil(tile.tile_m as usize) as u64;
    let mut out = launch.dispatch(&variant, &[], &params, groups)?.finish()?;
    let scales = out.remove(1).into_iter().map(f32::from_bits).collect();
    Ok((bytes(&out.remove(0), fields, of_codes, words)?, scales))
}

/// Fields of `bits` bits, `from` words per row, as words of four codes, `to` per row. What lies past those must be zero.
fn bytes(words: &[u32], bits: u8, from: usize, to: usize) -> Result<Vec<u32>> {
    if bits == 8 {
        return Ok(words.to_vec());
    }
    let in_word = 32 / usize::from(bits);
    let code = |row: &[u32], k: usize| {
        let up = row[k / in_word] << (32 - usize::from(bits) - k % in_word * usize::from(bits));
        (up as i32 >> (32 - bits)) as i8
    };
    let mut all: Vec<i8> = Vec::with_capacity(words.len() / from * to * 4);
    for row in words.chunks(from) {
        if let Some(k) = (4 * to..from * in_word).find(|&k| code(row, k) != 0) {
            invalid!("a code at {k}, past the padding of the row");
        }
        all.extend((0..4 * to).map(|k| code(row, k)));
    }
    Ok(bytemuck::pod_collect_to_vec(&all))
}

pub(super) fn quantize(table: &mut Table) {
    for (scope, name) in [(ActivationScope::Tensor, "tensor "), (ActivationScope::Row, "row ")] {
        for (parts, cols) in SHAPES {
            for (bits, fields) in [(8, 8), (4, 8), (2, 8), (4, 4), (3, 4), (2, 2)] {
                if fields < 8 && table.kernel != Kernel::QuantizeDirect {
                    continue;
                }
                // Division is accurate to 2.5 units in the last place (WGSL 15.7.4), the scale is one of two.
                add(table, name, ActivationFormat::Int { bits, scope }, (parts, cols), fields, 3.0);
            }
        }
    }
}

pub(super) fn quantize_affine(table: &mut Table) {
    for (parts, cols) in SHAPES {
        // The range is rounded before it is divided.
        add(table, "", ActivationFormat::TorchDynamic, (parts, cols), 8, 4.0);
    }
}

pub(super) fn of_norm(table: &mut Table) {
    const EPS: f32 = 1e-5;
    for (rows, cols) in [(9, 37), (1, 1), (5, 7), (7, 172), (65, 64), (2, 1030), (65_600, 3)] {
        for bits in [8, 4, 2] {
            let format = ActivationFormat::Int { bits, scope: ActivationScope::Row };
            let normal = move || {
                let mut x = values(rows * cols, rows + cols);
                for (row, x) in x.chunks_mut(cols).enumerate() {
                    let factor = [1.0, 1e-3, 50.0, 0.0, 1e6, 1e-4][row % 6];
                    x.iter_mut().for_each(|v| *v *= factor);
                }
                let weight = values(cols, 5);
                let y = reference::rms_norm(&x, &weight, EPS);
                (x, weight, y)
            };
            let on_device = move |gpu: &Device, x: &[f32], weight: &[f32]| -> Result<_> {
                let (x_stride, y_stride) = (cols + 3, cols.next_multiple_of(32) / 4);
                let mut launch = Launch::new(gpu);
                launch.input("x", &strided(x, cols, x_stride, STRAY))?.input("weight", weight)?;
                launch.output("y", rows * y_stride)?.output("x_scale", rows)?;
                let params = [
                    ("m", rows as u32),
                    ("cols", cols as u32),
                    ("x_stride", x_stride as u32),
                    ("y_stride", y_stride as u32),
                    ("eps", EPS.to_bits()),
                    ("q_max", (1 << (bits - 1)) - 1),
                ];
                let mut out = launch.rowwise(Kernel::RmsNormQuantize, &params, rows)?.finish()?;
                let scales: Vec<f32> = out.remove(1).into_iter().map(f32::from_bits).collect();
                Ok((out.remove(0), scales))
            };
            let shape = format!("{format} [{rows}, {cols}]");
            let tokens = sequences(&[(0, rows as u32)]);
            let expects = move |y: &[f32]| expected(y, cols, &tokens, format);
            // What `ONE_OP` allows the norm.
            let close = Tolerance::Close { absolute: 0.0, relative: 2e-6 };
            let scales = expects.clone();
            table.add("scales", &shape, close, move |gpu| {
                let (x, weight, y) = normal();
                Ok(Outcome::dense(&on_device(gpu, &x, &weight)?.1, &scales(&y).scales, 0))
            });
            // The same, of the largest quotient.
            let close = Tolerance::Close { absolute: 127.0 * 2e-6, relative: 0.0 };
            table.add("codes", &shape, close, move |gpu| {
                let (x, weight, y) = normal();
                let (words, scales) = on_device(gpu, &x, &weight)?;
                Ok(excess(&words, &scales, &y, cols, &expects(&y)))
            });
        }
    }
}

/// A case of the scales, within `ulps` units in the last place, and one of the codes.
fn add(
    table: &mut Table,
    name: &str,
    format: ActivationFormat,
    (parts, cols): (&'static [(u32, u32)], usize),
    fields: u8,
    ulps: f64,
) {
    let kernel = table.kernel;
    let tokens = sequences(parts);
    let mut shape = format!("{format} [{}, {cols}], {} sequences", tokens.len(), parts.len());
    if fields < 8 {
        shape += &format!(", fields of {fields} bits");
    }
    let close = Tolerance::Close { absolute: 0.0, relative: ulps / f64::from(1 << 23) };
    let scale_tokens = tokens.clone();
    table.add(format!("{name}scales"), &shape, close, move |gpu| {
        let x = activations(scale_tokens.len(), cols);
        let (_, got) = on_device(gpu, kernel, &x, cols, &scale_tokens, format, fields)?;
        Ok(Outcome::dense(&got, &expected(&x, cols, &scale_tokens, format).scales, 0))
    });
    // 2.5 units in the last place of the largest quotient, 127.
    let close = Tolerance::Close { absolute: 2e-5, relative: 0.0 };
    table.add(format!("{name}codes"), &shape, close, move |gpu| {
        let x = activations(tokens.len(), cols);
        let (words, scales) = on_device(gpu, kernel, &x, cols, &tokens, format, fields)?;
        Ok(excess(&words, &scales, &x, cols, &expected(&x, cols, &tokens, format)))
    });
}

fn expected(x: &[f32], cols: usize, tokens: &[Token], format: ActivationFormat) -> QuantizedActivations {
    let batch = Batch::new(tokens.to_vec(), Vec::new());
    quantize_activations(x, cols, &batch.spans(), format).unwrap_or(QuantizedActivations {
        codes: Vec::new(),
        scales: Vec::new(),
        group: 1,
    })
}

/// How far each quotient x / scale lies beyond half a step from its code: 0 for correct rounding, and at a tie
/// for either neighbour. A code more than one away from the reference's, or a padding code, counts as 1000.
fn excess(words: &[u32], scales: &[f32], x: &[f32], cols: usize, want: &QuantizedActivations) -> Outcome {
    let stride = cols.next_multiple_of(32);
    let codes: &[i8] = bytemuck::cast_slice(words);
    let of = |i: usize| {
        let (row, k, code) = (i / stride, i % stride, i32::from(codes[i]));
        if words[i / 4] == POISON {
            return f32::from_bits(POISON);
        }
        if k >= cols {
            return if code == 0 { 0.0 } else { 1000.0 };
        }
        let truth = i32::from(want.codes[row * cols + k]);
        let quotient = f64::from(x[row * cols + k]) / f64::from(scales[row]);
        if (code - truth).abs() > 1 {
            return 1000.0;
        }
        ((quotient - f64::from(code)).abs() - 0.5).max(0.0) as f32
    };
    let got: Vec<f32> = (0..codes.len()).map(of).collect();
    Outcome::dense(&got, &vec![0.0; got.len()], stride)
}

pub(super) fn dequantize_rows(table: &mut Table) {
    for (parts, cols) in SHAPES {
        let rows = rows(parts);
        table.add("", format!("[{rows}, {cols}]"), Tolerance::Exact, move |gpu| {
            let format = ActivationFormat::Int { bits: 8, scope: ActivationScope::Row };
            let mut x = values(rows * cols, 21);
            x.iter_mut().enumerate().for_each(|(i, v)| *v *= 1.0 + (i / cols) as f32);
            let q = expected(&x, cols, &sequences(parts), format);
            let (x_stride, y_stride) = (cols.next_multiple_of(32) / 4, cols + 5);
            let mut codes = vec![0i8; rows * x_stride * 4];
            for (to, from) in codes.chunks_mut(x_stride * 4).zip(q.codes.chunks(cols)) {
                to[..cols].copy_from_slice(from);
            }
            let mut launch = Launch::new(gpu);
            launch.input("x", &codes)?.input("x_scale", &q.scales)?.output("y", rows * y_stride)?;
            let params = [
                ("m", rows as u32),
                ("cols", cols as u32),
                ("x_stride", x_stride as u32),
                ("y_stride", y_stride as u32),
            ];
            let variant = Variant::plain(Kernel::DequantizeRows, Tile::elementwise());
            let got = launch.elementwise(&variant, &params, rows * x_stride)?.single()?;
            let want = q.values(cols);
            Ok(Outcome::floats(got, strided(&want, cols, y_stride, POISON), y_stride))
        });
    }
}
