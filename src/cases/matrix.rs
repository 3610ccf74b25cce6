//! Packed matrices: which formats at which shapes, decoding and embedding.

use super::data::{Random, sequences, strided, token_rows, weights};
use super::launch::{Device, Launch, POISON};
use super::{Outcome, Table, Tolerance};
use crate::engine::DeviceMatrix;
use crate::error::Result;
use crate::format::element::Element;
use crate::format::{Block, Format, Packed, Scope};
use crate::reference;
use crate::shader::{FormatVariant, Kernel, Tile, Variant};

/// Formats that are in no catalog because a width or a block tells them from others that are: with them every
/// pipeline has a format.
const MORE_FORMATS: [&str; 29] = [
    "uint2",
    "uint3",
    "uint5",
    "uint6",
    "uint7",
    "integer(3,1)",
    "integer(5,2)",
    "integer(6,3)",
    "integer(7,3)",
    "integer(1,0,is_signed=false)",
    "log(2,3)",
    "log(3,5)",
    "minifloat_ieee(5,2)",
    "minifloat_denorm(6,3)",
    "minifloat_ieee(7,3)",
    "block_fp(2,8,none,[1,32])",
    "block_fp(3,8,none,[1,32])",
    "block_fp(5,8,none,[1,64])",
    "block_fp(7,8,none,[1,32])",
    "block_log(2,8,[1,32])",
    "block_log(3,8,[1,32])",
    "block_log(5,8,[1,16])",
    "block_log(7,8,[1,32])",
    "block_minifloat_corrected(8,4,8,[2,8])",
    // Runs of the flattened matrix that cross rows of 37 and of 172.
    "mxint(8,5)",
    "mxint(8,37)",
    "mxint(12,37)",
    "mase_mxfp(4,3,5)",
    "mase_mxfp(4,3,37)",
];

/// The catalog and what it leaves out: every device variant, groups of odd lengths, groups that fit `[rows, cols]`.
pub(super) fn formats(rows: usize, cols: usize) -> Vec<Format> {
    let mut all = usual_formats(rows, cols);
    all.extend(MORE_FORMATS.iter().filter_map(|text| text.parse::<Format>().ok()));
    all.retain(|format| format.layout(rows, cols).is_ok());
    all
}

fn usual_formats(rows: usize, cols: usize) -> Vec<Format> {
    let mut all = Format::catalog();
    all.extend([7, 5].map(|bits| Format::Int { bits, scope: Scope::Group(32) }));
    all.push(Format::Int { bits: 5, scope: Scope::Row });
    all.push(Format::Radix { base: 11, digits: 2, bits: 7, group: 64 });
    all.extend([1, 5, 13].map(|group| Format::Base11Nine32 { group }));
    // Its group divides the matrix; 32 aligns with chunks, the others straddle them.
    all.retain(|format| !matches!(format, Format::MxIntCuda { .. }));
    let divides = |group: &u32| (rows * cols).is_multiple_of(*group as usize);
    let cuda = |group| Format::MxIntCuda { group };
    all.extend([32, 16].into_iter().filter(divides).map(cuda));
    all.extend([5, 43, 7, 11, 37, 1].into_iter().filter(divides).take(1).map(cuda));
    all.retain(|format| format.layout(rows, cols).is_ok());
    all
}

/// Of the usual formats, one for every pipeline: what else runs on it differs in data only.
pub(super) fn one_per_variant(rows: usize, cols: usize) -> Vec<Format> {
    let mut seen = Vec::new();
    let mut all = usual_formats(rows, cols);
    all.retain(|&format| {
        let variant = FormatVariant::of(format, rows, cols).ok();
        let usual = !format.is_wide() && !matches!(format, Format::Custom(_));
        let is_new = usual && !seen.contains(&variant);
        seen.push(variant);
        is_new
    });
    all
}

/// What a row of the report is called; a group that straddles chunks of 32 is decoded by other code.
pub(super) fn variant_name(format: Format, rows: usize, cols: usize) -> String {
    let Ok(variant) = FormatVariant::of(format, rows, cols) else { return format.to_string() };
    if variant.scale_per_element() { format!("{} straddling", variant.name()) } else { variant.name() }
}

/// [`variant_name`] of matrices with exceptions.
pub(super) fn patched_name(format: Format, rows: usize, cols: usize) -> String {
    match format.layout(rows, cols) {
        Ok(layout) => FormatVariant::new(&layout, cols, true).name(),
        Err(_) => format.to_string(),
    }
}

/// Formats that let small weights pass unquantized.
pub(super) fn passing() -> [Format; 2] {
    let block = Block::dims(&[1, 16]);
    [
        Element::BlockMinifloat { width: 8, exponent_width: 4, exponent_bias_width: 8 },
        Element::BlockFp { width: 8, exponent_width: 8, exponent_bias: 127 },
    ]
    .map(|element| Format::Element { element, block })
}

pub(super) fn packed(format: Format, rows: usize, cols: usize, factor: f32) -> Result<Packed> {
    let mut w = weights(rows, cols, rows * 1009 + cols);
    w.iter_mut().for_each(|v| *v *= factor);
    format.encode(&w, rows, cols)
}

/// Words that no encoder writes are still decoded alike: random codes, the scales of a real matrix.
fn random_codes(format: Format, rows: usize, cols: usize) -> Result<Packed> {
    let mut packed = packed(format, rows, cols, 1.0)?;
    let mut random = Random::new((rows * cols) as u64);
    packed.codes.fill_with(|| random.word());
    Ok(packed)
}

pub(super) fn dequantize(table: &mut Table) {
    let shapes =
        [(5, 37), (1, 1), (3, 5), (7, 11), (11, 13), (13, 172), (7, 128), (64, 192), (2, 300), (5, 512)];
    for (rows, cols) in shapes {
        for format in formats(rows, cols) {
            // Small weights meet other code in the decoders of scales, which does not depend on the shape.
            let small = matches!(cols, 37 | 300 | 512);
            for (label, factor) in [("", 1.0), (" tiny", 2e-38), (" subnormal", 3e-41), (" passing", 1e-9)] {
                if factor != 1.0 && !small {
                    continue;
                }
                let shape = format!("{format} [{rows}, {cols}]{label}");
                let name = match factor == 1e-9 && passing().contains(&format) {
                    true => patched_name(format, rows, cols),
                    false => variant_name(format, rows, cols),
                };
                table.add(name, shape, Tolerance::Exact, move |gpu| {
                    let w = packed(format, rows, cols, factor)?;
                    decode(gpu, &w, &w)
                });
                if cols == 512 {
                    table.cover();
                }
            }
            if format.has_integer_codes() {
                let shape = format!("{format} [{rows}, {cols}] random codes");
                table.add(variant_name(format, rows, cols), shape, Tolerance::Exact, move |gpu| {
                    let w = random_codes(format, rows, cols)?;
                    decode(gpu, &w, &w)
                });
            }
        }
    }
}

/// One given matrix, see [`super::of_matrix`].
pub(super) fn of_matrix(table: &mut Table, device: &Packed, truth: &Packed) {
    let shape = format!("{} [{}, {}]", device.format, device.rows, device.cols);
    let (device, truth) = (device.clone(), truth.clone());
    let variant = variant_name(device.format, device.rows, device.cols);
    table.add(variant, shape, Tolerance::Exact, move |gpu| decode(gpu, &device, &truth));
}

/// Decodes `packed` on the device and `truth` by the reference.
fn decode(gpu: &Device, packed: &Packed, truth: &Packed) -> Result<Outcome> {
    let matrix = DeviceMatrix::upload(gpu, "case", packed)?;
    let stride = packed.cols.next_multiple_of(32);
    let tile = Tile::elementwise();
    let format = Some(matrix.variant);
    let variant = Variant { format, ..Variant::plain(Kernel::Dequantize, tile) };
    let mut got = Vec::new();
    for part in &matrix.parts {
        let mut params = matrix.params(part);
        params.push(("y_stride", stride as u32));
        let groups = ((part.rows * stride / 32) as u64).div_ceil(tile.workgroup.into());
        let mut launch = Launch::new(gpu);
        launch.output("y", part.rows * stride)?.dispatch(
            &variant,
            &[("codes", &part.codes), ("scales", &part.scales)],
            &params,
            groups,
        )?;
        got.extend(launch.single()?);
    }
    // The padding is part of the result: kernels multiply whole chunks.
    Ok(Outcome::floats(got, strided(&truth.decode(), packed.cols, stride, 0), stride))
}

pub(super) fn embed(table: &mut Table) {
    let (rows, tokens) = (75, 9);
    for format in passing() {
        let shape = format!("{format} [{rows}, 64], exceptions");
        table.add(patched_name(format, rows, 64), shape, Tolerance::Exact, move |gpu| {
            look_up(gpu, &packed(format, rows, 64, 1e-9)?, 0)
        });
    }
    for cols in [37, 172, 64, 512] {
        let all = if cols == 37 { formats(rows, cols) } else { one_per_variant(rows, cols) };
        for format in all {
            for (source, name) in [(0, "id"), (1, "position"), (2, "segment")] {
                if source != 0 && cols != 37 {
                    continue;
                }
                let shape = format!("{format} [{rows}, {cols}] by {name}, {tokens} tokens");
                table.add(variant_name(format, rows, cols), shape, Tolerance::Exact, move |gpu| {
                    look_up(gpu, &packed(format, rows, cols, 1.0)?, source)
                });
            }
        }
    }
}

fn look_up(gpu: &Device, packed: &Packed, source: u32) -> Result<Outcome> {
    let matrix = DeviceMatrix::upload(gpu, "case", packed)?;
    let cols = packed.cols;
    let tokens = sequences(&[(3, 4), (0, 1), (rows_end(packed), 4)]);
    let ids: Vec<usize> = tokens
        .iter()
        .map(|t| match source {
            0 => t.id as usize % packed.rows,
            1 => t.position as usize,
            _ => t.segment as usize,
        })
        .collect();
    let mut device_tokens = token_rows(&tokens);
    device_tokens.iter_mut().for_each(|t| t[0] %= packed.rows as u32);
    let stride = cols.next_multiple_of(32);
    let format = Some(matrix.variant);
    let variant = Variant { format, ..Variant::plain(Kernel::Embed, Tile::elementwise()) };
    let variant = variant.constant("SOURCE", source);
    let mut launch = Launch::new(gpu);
    launch.input("tokens", &device_tokens)?.output("y", tokens.len() * stride)?;
    for part in &matrix.parts {
        let mut params = matrix.params(part);
        let m = tokens.len() as u32;
        params.extend([("m", m), ("first_row", part.first_row as u32), ("y_stride", stride as u32)]);
        let groups = ((tokens.len() * stride / 32) as u64).div_ceil(variant.tile.workgroup.into());
        launch.dispatch(&variant, &[("codes", &part.codes), ("scales", &part.scales)], &params, groups)?;
    }
    let want = reference::embed(&packed.decode(), cols, ids);
    Ok(Outcome::floats(launch.single()?, strided(&want, cols, stride, POISON), stride))
}

/// A first position that lets four tokens end at the last row of the table.
fn rows_end(packed: &Packed) -> u32 {
    packed.rows as u32 - 4
}
