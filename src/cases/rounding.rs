//! Activations in element formats: block maxima, and rounding to values and to codes, bit for bit.

use super::data::{sequences, strided, token_rows, values};
use super::launch::{Device, Launch, POISON, STRAY};
use super::product::chunk_scales;
use super::{Outcome, Table, Tolerance};
use crate::engine::Rounding;
use crate::error::{Result, invalid};
use crate::format::{ActivationFormat, Block, block_tile, fake_quantize, quantize_activations};
use crate::graph::{Batch, Token};
use crate::shader::{Kernel, Tile, Variant};

/// Sequences as (first position, tokens): one of a single row of zeros, and tiles that its neighbours would fill.
const PARTS: [(u32, u32); 5] = [(0, 3), (5, 1), (2, 7), (0, 1), (0, 9)];
/// Odd widths; what has groups of fixed length takes the first one that it divides.
const WIDTHS: [usize; 4] = [37, 172, 64, 128];

/// Formats with tables of steps. `block_log` and the like stand for their usual parameters.
const FEW_VALUES: [&str; 45] = [
    "integer(8,4)",
    "integer(4,2,floor)",
    "integer(8,-3)",
    "integer(8,30,false,false)",
    "minifloat_denorm(8,4)",
    "minifloat_denorm(4,2,3)",
    "minifloat_denorm(8,3,30)",
    "minifloat_denorm(4,6)",
    "minifloat_ieee(8,4)",
    "minifloat_ieee(4,2,7)",
    "minifloat_ieee(8,2,30)",
    "minifloat_ieee(4,5)",
    "log(8)",
    "log(4,7)",
    "log(16)",
    "binary",
    "residual_sign(1)",
    "residual_sign(2)",
    "residual_sign(8)",
    "block_fp",
    "block_fp(8,8,none,[16])",
    "block_fp(4,8,none,[1,32])",
    "block_fp(6,3,3,[2,5])",
    "block_minifloat",
    "block_minifloat(4,2,4,[16])",
    "block_minifloat_corrected",
    "block_minifloat_corrected(6,3,8,[4,8])",
    "block_log",
    "block_log(4,4,[-1,3])",
    "mxint8",
    "mxint4(scale=ceil)",
    "mxint(8,16)",
    "mxint(4,4)",
    "mxint_hardware(8,4,[2,8])",
    "mase_mxfp",
    "mase_mxfp(2,1,4)",
    "mxfp8_e4m3",
    "mxfp8_e5m2",
    "mxfp6_e2m3",
    "mxfp6_e3m2",
    "mxfp4",
    "mxfp4(scale=ceil)",
    "mxfp4(round=nearest)",
    "mxfp6_e3m2(round=floor,block=5)",
    "mxint6(block=16)",
];

/// Formats whose definition the device computes.
const WIDE: [&str; 26] = [
    "integer(16,8)",
    "integer(16,8,floor)",
    "integer(32,16)",
    "integer(12,120,floor)",
    "integer(25,-4,false,false)",
    "minifloat_denorm(16,6)",
    "minifloat_denorm(9,8)",
    "minifloat_denorm(32,8)",
    "minifloat_denorm(12,3,150)",
    "minifloat_ieee(16,5)",
    "minifloat_ieee(9,8)",
    "minifloat_ieee(32,2)",
    "minifloat_ieee(32,8)",
    "minifloat_ieee(12,3,30)",
    "block_fp(12,8)",
    "block_fp(16,4,7,[16])",
    "block_fp(32,8,none,[2,5])",
    "block_minifloat(16,4)",
    "block_minifloat(32,8,8,[1,5])",
    "block_minifloat_corrected(16,5)",
    "block_minifloat_corrected(32,4,8,[3,7])",
    "block_minifloat_corrected(32,8)",
    "mxint(12,4)",
    "mxint(16,32)",
    "mxint_hardware(9,4)",
    "mxint_hardware(32,8,[-1,8])",
];

/// Formats with integer codes.
const CODES: [&str; 12] = [
    "integer(8,4)",
    "integer(4,2,floor)",
    "integer(6,-3)",
    "integer(8,60)",
    "binary",
    "mxint8",
    "mxint6",
    "mxint4(scale=ceil)",
    "mxint8(block=128)",
    "mxint(8,64)",
    "mxint(5,32)",
    "mxint_hardware(8,4,[1,96])",
];

/// Rows of all magnitudes, of zeros, of ties, of powers of two and their neighbours, of what is near 1e-8 and subnormal.
fn activations(rows: usize, cols: usize) -> Vec<f32> {
    let mut x = values(rows * cols, 3 * rows + cols);
    for (row, x) in x.chunks_mut(cols).enumerate() {
        for (k, x) in x.iter_mut().enumerate() {
            let power = f32::powi(2.0, (k as i32 * 7 + row as i32) % 23 - 16).copysign(*x);
            *x = match row % 8 {
                0 => *x,
                1 => *x * 1e-3,
                2 => (*x * 64.0).round() / 32.0 + if k % 3 == 0 { 0.015625 } else { 0.0 },
                3 => 0.0f32.copysign(*x),
                4 => [power, power.next_up(), power.next_down(), power * 1.5][k % 4],
                5 => {
                    let near =
                        [1e-8, 1e-8f32.next_up(), 1e-8f32.next_down(), 1e-9, 3e-8, 1e-40, 1e-45][k % 7];
                    near.copysign(*x)
                }
                6 => *x * 1e20,
                _ => *x * 1e-20,
            };
        }
    }
    x
}

fn spans(tokens: &[Token]) -> Vec<(u32, u32)> {
    Batch::new(tokens.to_vec(), Vec::new()).spans()
}

/// Uploads x and the tokens, and appends the kernels that leave block maxima.
fn maxima<'a>(
    gpu: &'a Device,
    x: &[f32],
    cols: usize,
    tokens: &[Token],
    tiles: bool,
    params: &[(&'static str, u32)],
) -> Result<Launch<'a>> {
    let mut launch = Launch::new(gpu);
    let blocks = params.iter().find(|(name, _)| *name == "blocks").map_or(1, |(_, blocks)| *blocks as usize);
    let n = tokens.len() * blocks;
    launch
        .input("x", &strided(x, cols, cols + 3, STRAY))?
        .input("tokens", &token_rows(tokens))?
        .output("maxima", n)?
        .output("least", tokens.len())?
        .elementwise(&Variant::plain(Kernel::BlockAbsmax, Tile::elementwise()), params, n)?;
    if tiles {
        launch.elementwise(&Variant::plain(Kernel::TileAbsmax, Tile::elementwise()), params, n)?;
    }
    Ok(launch)
}

/// Parameters of matrices; rows of x lie three elements further apart than they are wide.
fn matrix_params(rows: usize, cols: usize, y_stride: usize) -> Vec<(&'static str, u32)> {
    vec![("m", rows as u32), ("x_stride", cols as u32 + 3), ("y_stride", y_stride as u32)]
}

/// What the CPU finds: maxima `[rows, blocks]` as bits, after and, without `tiles`, before rows of a tile are joined; and
/// the smallest of every sequence at its first row.
fn true_maxima(x: &[f32], cols: usize, tokens: &[Token], block: Block, tiles: bool) -> (Vec<u32>, Vec<u32>) {
    let (tile_rows, width) = if tiles { block_tile(block, cols) } else { (1, block_tile(block, cols).1) };
    let spans = spans(tokens);
    let tile = |row: usize| {
        let (begin, end) = (spans[row].0 as usize, spans[row].1 as usize);
        match tile_rows {
            0 => begin..end,
            n => row - (row - begin) % n..end.min(row - (row - begin) % n + n),
        }
    };
    let max = |row: usize, columns: std::ops::Range<usize>| {
        let of_row =
            |row: usize| x[row * cols..][columns.clone()].iter().fold(0, |m, v| v.abs().to_bits().max(m));
        tile(row).map(of_row).max().unwrap_or(0)
    };
    let rows = tokens.len();
    let all: Vec<Vec<u32>> = (0..rows)
        .map(|row| (0..cols).step_by(width).map(|k| max(row, k..(k + width).min(cols))).collect())
        .collect();
    let least = |row: usize| {
        let of = |r: usize| all[r].iter().copied().filter(|&max| max > 0).min();
        let first = spans[row].0 as usize == row && tiles;
        let smallest = || (row..spans[row].1 as usize).filter_map(of).min();
        if first { smallest().unwrap_or(u32::MAX) } else { u32::MAX }
    };
    (all.concat(), (0..rows).map(least).collect())
}

fn maxima_case(table: &mut Table, parts: &'static [(u32, u32)], cols: usize, text: &str, tiles: bool) {
    let tokens = sequences(parts);
    let shape = format!("{text} [{}, {cols}], {} sequences", tokens.len(), parts.len());
    let text = text.to_string();
    table.add("", shape, Tolerance::Exact, move |gpu| {
        let (element, block) = element(text.parse()?)?;
        let x = activations(tokens.len(), cols);
        let mut params = Rounding::element(gpu, element, false)?.params(block, cols);
        params.extend(matrix_params(tokens.len(), cols, 0));
        let got = maxima(gpu, &x, cols, &tokens, tiles, &params)?.finish()?;
        let (largest, least) = true_maxima(&x, cols, &tokens, block, tiles);
        Ok(Outcome::integers(got.concat(), [largest, least].concat(), 0))
    });
}

pub(super) fn block_absmax(table: &mut Table) {
    for (text, cols) in [("block_fp", 37), ("mxfp4", 172), ("block_fp(8,8,none,[1,5])", 5), ("mxint(8,1)", 7)]
    {
        maxima_case(table, &PARTS, cols, text, false);
    }
    maxima_case(table, &[(0, 4100)], 1030, "mxint_hardware(8,4,[1,1])", false);
}

pub(super) fn tile_absmax(table: &mut Table) {
    for (text, cols) in [
        ("block_fp(8,8,none,[16])", 37),
        ("block_fp(8,8,none,[-1])", 172),
        ("block_fp(8,8,none,[2,5])", 37),
        ("block_fp(8,8,none,[1,16])", 64),
        ("block_fp(8,8,none,[100,7])", 13),
    ] {
        maxima_case(table, &PARTS, cols, text, true);
    }
}

fn element(format: ActivationFormat) -> Result<(crate::format::element::Element, Block)> {
    match format {
        ActivationFormat::Element { element, block } => Ok((element, block)),
        _ => invalid!("{format} is no element format"),
    }
}

/// `mxfp8_e4m3(block=16)`: the part before the parameters.
fn family(text: &str) -> &str {
    text.split('(').next().unwrap_or(text)
}

/// Appends cases of every format at two widths that its groups fit.
fn cases(
    table: &mut Table,
    texts: &[&'static str],
    check: impl Fn(&Device, ActivationFormat, usize, &[Token]) -> Result<Outcome> + Copy + Send + Sync + 'static,
) {
    for &text in texts {
        let fits = |cols: &usize| match text.parse::<ActivationFormat>() {
            Ok(format) => format.check_width(*cols).is_ok(),
            // The case fails and says why.
            Err(_) => true,
        };
        for cols in WIDTHS.into_iter().filter(fits).take(2) {
            let tokens = sequences(&PARTS);
            let shape = format!("{text} [{}, {cols}], {} sequences", tokens.len(), PARTS.len());
            table.add(family(text), shape, Tolerance::Exact, move |gpu| {
                check(gpu, text.parse()?, cols, &tokens)
            });
        }
    }
}

pub(super) fn rounded_values(table: &mut Table) {
    let kernel = table.kernel;
    let texts: &[&'static str] = if kernel == Kernel::RoundSteps { &FEW_VALUES } else { &WIDE };
    cases(table, texts, move |gpu, format, cols, tokens| {
        let (x, stride) = (activations(tokens.len(), cols), cols + 5);
        let (got, used) = rounded(gpu, format, &x, cols, tokens, stride)?;
        if used != kernel {
            invalid!("{format} is rounded by {}", used.row().name);
        }
        // A zero has no sign on the device.
        let want: Vec<f32> =
            fake_quantize(&x, cols, &spans(tokens), format).iter().map(|y| y + 0.0).collect();
        Ok(Outcome::floats(got, strided(&want, cols, stride, POISON), stride))
    });
}

/// `x` in `format`, and by which kernel.
fn rounded(
    gpu: &Device,
    format: ActivationFormat,
    x: &[f32],
    cols: usize,
    tokens: &[Token],
    stride: usize,
) -> Result<(Vec<u32>, Kernel)> {
    let (element, block) = element(format)?;
    let rounding = Rounding::element(gpu, element, false)?;
    let mut params = rounding.params(block, cols);
    params.extend(matrix_params(tokens.len(), cols, stride));
    let mut launch = maxima(gpu, x, cols, tokens, rounding.has_tiles(block, cols), &params)?;
    launch.output("y", tokens.len() * stride)?;
    let variant = Variant::plain(rounding.kernel, Tile::elementwise());
    let groups = (tokens.len() * cols.div_ceil(4)).div_ceil(variant.tile.workgroup as usize);
    launch.dispatch(&variant, &[("table", &rounding.table)], &params, groups as u64)?;
    Ok((launch.finish()?.swap_remove(2), rounding.kernel))
}

pub(super) fn nvfp4(table: &mut Table) {
    for cols in [5, 37, 172] {
        let tokens = sequences(&PARTS);
        let shape = format!("[{}, {cols}], {} sequences", tokens.len(), PARTS.len());
        table.add("", shape, Tolerance::Exact, move |gpu| {
            let (x, rows, stride) = (activations(tokens.len(), cols), tokens.len(), cols + 5);
            let maxima: Vec<f32> =
                x.chunks(cols).map(|row| row.iter().fold(0.0, |m, v| v.abs().max(m))).collect();
            let rounding = Rounding::nvfp4(gpu)?;
            let mut params = rounding.params(Block::None, cols);
            params.extend(matrix_params(rows, cols, stride));
            let variant = Variant::plain(Kernel::RoundNvfp4, Tile::reduction(gpu.class()));
            let mut launch = Launch::new(gpu);
            launch
                .input("x", &strided(&x, cols, cols + 3, STRAY))?
                .input("tokens", &token_rows(&tokens))?
                .input("maxima", &maxima)?
                .output("y", rows * stride)?
                .dispatch(&variant, &[("table", &rounding.table)], &params, rows as u64)?;
            let want = fake_quantize(&x, cols, &spans(&tokens), ActivationFormat::NvFp4);
            let want: Vec<f32> = want.iter().map(|y| y + 0.0).collect();
            Ok(Outcome::floats(launch.single()?, strided(&want, cols, stride, POISON), stride))
        });
    }
}

pub(super) fn codes(table: &mut Table) {
    cases(table, &CODES, |gpu, format, cols, tokens| {
        let (element, block) = element(format)?;
        let (rows, words) = (tokens.len(), cols.next_multiple_of(32) / 4);
        let x = activations(rows, cols);
        let Some(q) = quantize_activations(&x, cols, &spans(tokens), format) else {
            invalid!("{format} has no integer codes at K = {cols}");
        };
        let scales = chunk_scales(&q, cols);
        let mut want = vec![0i8; rows * words * 4];
        for (to, from) in want.chunks_mut(words * 4).zip(q.codes.chunks(cols)) {
            to[..cols].copy_from_slice(from);
        }
        let rounding = Rounding::element(gpu, element, true)?;
        let mut params = rounding.params(block, cols);
        params.extend(matrix_params(rows, cols, words));
        params.push(("scale_stride", (scales.len() / rows) as u32));
        let mut launch = maxima(gpu, &x, cols, tokens, rounding.has_tiles(block, cols), &params)?;
        launch.output("y", rows * words)?.output("x_scale", scales.len())?;
        let variant = Variant::plain(rounding.kernel, Tile::elementwise());
        let groups = (rows * words).div_ceil(variant.tile.workgroup as usize);
        launch.dispatch(&variant, &[("table", &rounding.table)], &params, groups as u64)?;
        let got = launch.finish()?.split_off(2).concat();
        let want = bytemuck::pod_collect_to_vec(&want).into_iter().chain(scales.iter().map(|s| s.to_bits()));
        Ok(Outcome::integers(got, want.collect(), 0))
    });
}
