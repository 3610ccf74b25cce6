//! Activation buffers of a plan: one per value, reused when the last reader has run.

use std::collections::HashMap;

use crate::error::Result;
use crate::gpu::{Buffer, Gpu};
use crate::graph::{Graph, NodeId, Op};

/// A matrix `[rows, width]` of f32 in a device buffer. Rows are `stride` elements apart; in a whole buffer
/// (`offset` 0) the columns `width..stride` are zero, so kernels may read whole chunks of 32.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) buffer: Buffer,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) stride: usize,
    pub(super) offset: usize,
}

/// Distance of rows of `width` elements.
pub(super) fn stride(width: usize) -> usize {
    width.next_multiple_of(32)
}

/// Whether all sizes are whole vec4. Strides of values are.
pub(super) fn whole_quads(sizes: &[usize]) -> bool {
    sizes.iter().all(|size| size.is_multiple_of(4))
}

/// Whether all sizes are whole pairs of vec4. Strides of values are.
pub(super) fn whole_pairs(sizes: &[usize]) -> bool {
    sizes.iter().all(|size| size.is_multiple_of(8))
}

/// The column of its buffer at which the value of `node` begins.
pub(super) fn offset_of(graph: &Graph, node: NodeId) -> usize {
    match (&graph.nodes[node].op, graph.nodes[node].inputs.first()) {
        (Op::Slice { offset }, Some(&input)) => offset + offset_of(graph, input),
        _ => 0,
    }
}

/// Hands out buffers; a freed one serves again for the same shape only, because its padding must stay zero.
#[derive(Default)]
pub(super) struct Pool {
    free: HashMap<(usize, usize), Vec<Buffer>>,
}

impl Pool {
    pub(super) fn take(&mut self, gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Value> {
        let stride = stride(width);
        let buffer = match self.free.get_mut(&(rows, width)).and_then(Vec::pop) {
            Some(buffer) => buffer,
            None => gpu.buffer(label, (rows * stride * 4) as u64)?,
        };
        Ok(Value { buffer, rows, width, stride, offset: 0 })
    }

    pub(super) fn give(&mut self, value: Value) {
        self.free.entry((value.rows, value.width)).or_default().push(value.buffer);
    }
}
