//! Lowering of quantized activations: to integer codes with scales, or to the values they stand for.

use std::sync::Arc;

use super::matmul;
use super::plan::Lowering;
use super::resident::DeviceMatrix;
use super::rounding::Rounding;
use super::values::Value;
use crate::error::{Result, invalid};
use crate::format::{ActivationFormat, ActivationScope, Block};
use crate::gpu::{Buffer, Gpu};
use crate::graph::{NodeId, Op};
use crate::shader::{Kernel, Tile, Variant};

/// How integer codes lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fields {
    pub(super) bits: u8,
    /// In a texture of words.
    pub(super) texels: bool,
}

impl Fields {
    /// Bytes in a buffer.
    const BYTES: Self = Self { bits: 8, texels: false };
}

/// What a linear layer's input is rounded to.
pub(super) type CodesKey = (NodeId, ActivationFormat, Fields);

/// Integer codes of an activation: words `[m, stride]` of fields and scales, one per row or per row and chunk.
pub(super) struct Quantized {
    pub(super) words: Buffer,
    pub(super) scales: Buffer,
    pub(super) stride: usize,
    pub(super) per_chunk: bool,
    scales_per_row: usize,
}

/// Whether a linear layer multiplies integer codes: naive plans multiply floats.
pub(super) fn runs_on_codes(fused: bool, matrix: &DeviceMatrix, format: ActivationFormat) -> bool {
    fused && matmul::integer_capable(matrix) && format.integer_group(matrix.cols).is_some()
}

/// The fields in which `matrix` reads `rows` rows of codes of `format`.
pub(super) fn fields(gpu: &Gpu, matrix: &DeviceMatrix, format: ActivationFormat, rows: usize) -> Fields {
    let ActivationFormat::Int { bits, .. } = format else { return Fields::BYTES };
    // The kernel of rows alone writes other fields.
    if !matmul::row_per_invocation(gpu, Kernel::QuantizeDirect, &[("cols", matrix.cols as u32)], rows) {
        return Fields::BYTES;
    }
    let bits = matmul::field_bits(matrix, bits);
    Fields { bits, texels: matmul::reads_texels(gpu, matrix, bits, rows) }
}

impl Lowering<'_> {
    /// The format with a scale per row to which all readers of `node` round it, where they multiply bytes.
    fn row_format_of_readers(&self, node: NodeId, rows: usize) -> Result<Option<ActivationFormat>> {
        let mut common = None;
        for reader in self.c.graph.nodes.iter().filter(|reader| reader.inputs.contains(&node)) {
            let Op::Linear { weight, .. } = reader.op else { return Ok(None) };
            let Some(format) = self.c.assignment.specs[weight].activation else { return Ok(None) };
            let matrix = self.matrix(weight)?;
            let by_row = matches!(format, ActivationFormat::Int { scope: ActivationScope::Row, .. });
            let bytes = runs_on_codes(self.c.fused, &matrix, format)
                && fields(self.c.gpu, &matrix, format, rows) == Fields::BYTES;
            if !by_row || !bytes || common.is_some_and(|common| common != format) {
                return Ok(None);
            }
            common = Some(format);
        }
        Ok(common)
    }

    /// Makes the codes of `node`, the norm of the rows of `x`, in its place, where they are all that is read of it. `false`
    /// where they are not, values are kept, or where norm and rounding by an invocation per row are faster.
    pub(super) fn normalize_to_codes(
        &mut self,
        node: NodeId,
        x: &Value,
        weight: &Buffer,
        eps: f32,
    ) -> Result<bool> {
        let of_x = [("cols", x.width as u32), ("x_stride", x.stride as u32)];
        if self.c.keep || matmul::row_per_invocation(self.c.gpu, Kernel::QuantizeDirect, &of_x, x.rows) {
            return Ok(false);
        }
        let Some(format) = self.row_format_of_readers(node, x.rows)? else { return Ok(false) };
        let ActivationFormat::Int { bits, .. } = format else { return Ok(false) };
        let q = self.codes_of(x, format, Fields::BYTES)?;
        let params = [
            ("m", x.rows as u32),
            ("cols", x.width as u32),
            ("x_stride", x.stride as u32),
            ("y_stride", q.stride as u32),
            ("eps", eps.to_bits()),
            ("q_max", (1 << (bits - 1)) - 1),
        ];
        let buffers = [("x", &x.buffer), ("weight", weight), ("y", &q.words), ("x_scale", &q.scales)];
        self.rowwise(Kernel::RmsNormQuantize, &buffers, &params, x.rows)?;
        self.quantized.insert((node, format, Fields::BYTES), q);
        Ok(true)
    }

    /// Room for codes of `x`.
    fn codes_of(&self, x: &Value, format: ActivationFormat, fields: Fields) -> Result<Quantized> {
        // Narrow fields come in whole vec4.
        let stride = match fields.bits {
            8 => x.stride / 4,
            bits => x.stride.div_ceil(128 / usize::from(bits)) * 4,
        };
        let per_chunk = format.integer_group(x.width).is_some_and(|group| group < x.width);
        let scales_per_row = if per_chunk { x.width.div_ceil(32) } else { 1 };
        let bytes = (x.rows * stride * 4) as u64;
        let words = match fields.texels {
            true => self.c.gpu.texels("activation codes", &[], bytes)?,
            false => self.c.gpu.buffer("activation codes", bytes)?,
        };
        let scales = self.c.gpu.buffer("activation scales", (x.rows * scales_per_row * 4) as u64)?;
        Ok(Quantized { words, scales, stride, per_chunk, scales_per_row })
    }

    /// The value of `node` in integer codes, once per format and kind of fields: q, k and v share it.
    pub(super) fn quantize(&mut self, node: NodeId, format: ActivationFormat, fields: Fields) -> Result<()> {
        if self.quantized.contains_key(&(node, format, fields)) {
            return Ok(());
        }
        let x = self.whole(node)?;
        let q = self.codes_of(&x, format, fields)?;
        let (stride, scales_per_row) = (q.stride, q.scales_per_row);
        let mut params = vec![
            ("m", x.rows as u32),
            ("cols", x.width as u32),
            ("x_stride", x.stride as u32),
            ("y_stride", stride as u32),
        ];
        let tokens = self.tokens_of(node);
        match format {
            ActivationFormat::Int { bits, scope } => {
                let maxima = self.row_maxima(node, &x, &params)?;
                let mut variant = matmul::row_variant(self.c.gpu, Kernel::Quantize, &params, x.rows)
                    .constant("PER_TENSOR", u32::from(scope == ActivationScope::Tensor));
                if variant.kernel == Kernel::QuantizeDirect {
                    variant = variant.constant("X_BITS", fields.bits.into());
                    variant.texels = fields.texels;
                }
                let buffers = [
                    ("x", &x.buffer),
                    ("maxima", &maxima),
                    ("tokens", &tokens),
                    ("y", &q.words),
                    ("x_scale", &q.scales),
                ];
                params.push(("q_max", (1 << (bits - 1)) - 1));
                let groups = (x.rows as u64).div_ceil(variant.tile.tile_m.into());
                self.dispatch(&variant, &buffers, &params, groups)?;
            }
            ActivationFormat::TorchDynamic => {
                let ranges = self.c.gpu.buffer("row ranges", (x.rows * 8) as u64)?;
                let buffers = [("x", &x.buffer), ("ranges", &ranges)];
                self.rowwise(Kernel::RowRange, &buffers, &params, x.rows)?;
                let buffers = [
                    ("x", &x.buffer),
                    ("ranges", &ranges),
                    ("tokens", &tokens),
                    ("y", &q.words),
                    ("x_scale", &q.scales),
                ];
                self.rowwise(Kernel::QuantizeAffine, &buffers, &params, x.rows)?;
            }
            ActivationFormat::Element { .. } => {
                params.push(("scale_stride", scales_per_row as u32));
                let outputs = [("y", &q.words), ("x_scale", &q.scales)];
                self.round(node, format, true, &outputs, params, x.rows * stride)?;
            }
            ActivationFormat::NvFp4 => invalid!("{format} has no integer codes"),
        }
        self.quantized.insert((node, format, fields), q);
        Ok(())
    }

    /// The values that `node` becomes, once per format: for weights without integer codes.
    pub(super) fn fake_quantize(&mut self, node: NodeId, format: ActivationFormat) -> Result<Value> {
        if let Some(value) = self.fake_quantized.get(&(node, format)) {
            return Ok(value.clone());
        }
        let x = self.whole(node)?;
        let y = self.pool.take(self.c.gpu, "quantized activations", x.rows, x.width)?;
        let mut params = vec![("m", x.rows as u32), ("cols", x.width as u32), ("y_stride", y.stride as u32)];
        match format {
            ActivationFormat::Element { .. } => {
                params.push(("x_stride", x.stride as u32));
                self.round(node, format, false, &[("y", &y.buffer)], params, x.rows * x.width.div_ceil(4))?;
            }
            ActivationFormat::NvFp4 => self.nvfp4(node, &x, &y)?,
            ActivationFormat::Int { .. } | ActivationFormat::TorchDynamic => {
                self.quantize(node, format, Fields::BYTES)?;
                let Some(q) = self.quantized.get(&(node, format, Fields::BYTES)) else {
                    invalid!("activations were not quantized");
                };
                params.push(("x_stride", q.stride as u32));
                let (words, scales, n) = (q.words.clone(), q.scales.clone(), x.rows * q.stride);
                let variant = Variant::plain(Kernel::DequantizeRows, Tile::elementwise());
                let buffers = [("x", &words), ("x_scale", &scales), ("y", &y.buffer)];
                self.elementwise(variant, &buffers, &params, n)?;
            }
        }
        self.fake_quantized.insert((node, format), y.clone());
        Ok(y)
    }

    /// Gives back what was made of the value of `node` once nothing reads that any more.
    pub(super) fn release(&mut self, node: NodeId) {
        self.quantized.retain(|(of, ..), _| *of != node);
        self.maxima.remove(&node);
        let keys: Vec<_> = self.fake_quantized.keys().filter(|(of, _)| *of == node).copied().collect();
        for key in keys {
            if let Some(value) = self.fake_quantized.remove(&key) {
                self.pool.give(value);
            }
        }
    }

    /// The tokens that the rows of `node` belong to.
    fn tokens_of(&self, node: NodeId) -> Buffer {
        if self.c.selected[node] { self.c.output_tokens.clone() } else { self.c.tokens.clone() }
    }

    fn rounding(&self, format: ActivationFormat, codes: bool) -> Result<Arc<Rounding>> {
        match self.c.roundings.get(&(format, codes)) {
            Some(rounding) => Ok(rounding.clone()),
            None => invalid!("the rounding table of {format} is not resident"),
        }
    }

    /// Largest magnitudes of the rows of `node`, `x`: those its kernel left, or found by a dispatch.
    fn row_maxima(&mut self, node: NodeId, x: &Value, params: &[(&str, u32)]) -> Result<Buffer> {
        if let Some(maxima) = self.maxima.get(&node) {
            return Ok(maxima.clone());
        }
        let maxima = self.c.gpu.buffer("row maxima", (x.rows * 4) as u64)?;
        self.rowwise(Kernel::Absmax, &[("x", &x.buffer), ("maxima", &maxima)], params, x.rows)?;
        Ok(maxima)
    }

    /// Row maxima, of which the kernel makes those of sequences, then NVFP4 row by row.
    fn nvfp4(&mut self, node: NodeId, x: &Value, y: &Value) -> Result<()> {
        let rounding = self.rounding(ActivationFormat::NvFp4, false)?;
        let tokens = self.tokens_of(node);
        let mut params =
            vec![("m", x.rows as u32), ("x_stride", x.stride as u32), ("y_stride", y.stride as u32)];
        params.extend(rounding.params(Block::None, x.width));
        let maxima = self.row_maxima(node, x, &params)?;
        let buffers = [
            ("x", &x.buffer),
            ("tokens", &tokens),
            ("maxima", &maxima),
            ("table", &rounding.table),
            ("y", &y.buffer),
        ];
        self.rowwise(rounding.kernel, &buffers, &params, x.rows)
    }

    /// Block maxima, then the rounding kernel of an element format with `n` invocations.
    fn round(
        &mut self,
        node: NodeId,
        format: ActivationFormat,
        codes: bool,
        outputs: &[(&str, &Buffer)],
        mut params: Vec<(&'static str, u32)>,
        n: usize,
    ) -> Result<()> {
        let x = self.whole(node)?;
        let ActivationFormat::Element { block, .. } = format else {
            invalid!("{format} is no element format");
        };
        let rounding = self.rounding(format, codes)?;
        let tokens = self.tokens_of(node);
        params.extend(rounding.params(block, x.width));
        let (maxima, least) = self.maxima(&rounding, block, &x, &tokens, &params)?;
        let mut buffers = vec![
            ("x", &x.buffer),
            ("tokens", &tokens),
            ("maxima", &maxima),
            ("least", &least),
            ("table", &rounding.table),
        ];
        buffers.extend(outputs);
        self.elementwise(Variant::plain(rounding.kernel, Tile::elementwise()), &buffers, &params, n)
    }

    /// Largest magnitudes of blocks, and the smallest of a sequence; any buffers where the format has no scales.
    fn maxima(
        &mut self,
        rounding: &Rounding,
        block: Block,
        x: &Value,
        tokens: &Buffer,
        params: &[(&str, u32)],
    ) -> Result<(Buffer, Buffer)> {
        if !rounding.has_scales() {
            return Ok((rounding.table.clone(), rounding.table.clone()));
        }
        let blocks =
            params.iter().find(|(name, _)| *name == "blocks").map_or(1, |(_, blocks)| *blocks as usize);
        let maxima = self.c.gpu.buffer("block maxima", (x.rows * blocks * 4) as u64)?;
        let least = self.c.gpu.buffer("smallest maxima", (x.rows * 4) as u64)?;
        let buffers = [("x", &x.buffer), ("tokens", tokens), ("maxima", &maxima), ("least", &least)];
        let variant = |kernel| Variant::plain(kernel, Tile::elementwise());
        self.elementwise(variant(Kernel::BlockAbsmax), &buffers, params, x.rows * blocks)?;
        if rounding.has_tiles(block, x.width) {
            self.elementwise(variant(Kernel::TileAbsmax), &buffers, params, x.rows * blocks)?;
        }
        Ok((maxima, least))
    }
}
