//! Building a graph while checking every weight against the file that has to provide it.

use super::reader::Reader;
use crate::error::closest_names;
use crate::error::{Result, invalid};
use crate::graph::{Graph, NodeId, Op, Role, WeightId};

/// A graph under construction. A weight enters it only after its shape and type have been found in
/// the file, so sizes a config merely claims are never allocated for.
pub(crate) struct Builder<'a> {
    pub(crate) graph: Graph,
    reader: &'a Reader,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(reader: &'a Reader) -> Self {
        Self { graph: Graph::default(), reader }
    }

    /// A matrix that the file stores as `[rows, cols]`.
    pub(crate) fn matrix(
        &mut self,
        tensor: String,
        rows: usize,
        cols: usize,
        role: Role,
    ) -> Result<WeightId> {
        self.check(&tensor, &[rows, cols])?;
        Ok(self.graph.weight(tensor, rows, cols, role, false))
    }

    /// A matrix `[rows, cols]` that the file stores as `[cols, rows]`.
    pub(crate) fn transposed(&mut self, tensor: String, rows: usize, cols: usize) -> Result<WeightId> {
        self.check(&tensor, &[cols, rows])?;
        Ok(self.graph.weight(tensor, rows, cols, Role::Linear, true))
    }

    /// Whether the file has a tensor of this name.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.reader.shape(tensor).is_some()
    }

    /// A vector.
    pub(crate) fn vector(&mut self, tensor: String, len: usize) -> Result<WeightId> {
        self.check(&tensor, &[len])?;
        Ok(self.graph.weight(tensor, 1, len, Role::Vector, false))
    }

    /// `y = x W^T + bias`, named `name`.
    pub(crate) fn linear(
        &mut self,
        name: String,
        input: NodeId,
        weight: WeightId,
        bias: Option<WeightId>,
    ) -> NodeId {
        let rows = self.graph.weights[weight].rows;
        self.graph.push(name, Op::Linear { weight, bias }, &[input], rows)
    }

    /// A node as wide as its first input.
    pub(crate) fn same_width(&mut self, name: String, op: Op, inputs: &[NodeId]) -> NodeId {
        let width = self.graph.nodes[inputs[0]].width;
        self.graph.push(name, op, inputs, width)
    }

    fn check(&self, tensor: &str, want: &[usize]) -> Result<()> {
        let label = self.reader.file().label();
        let Some((shape, element)) = self.reader.shape(tensor) else {
            let names = self.reader.file().tensors().iter().map(|tensor| tensor.name.as_str());
            invalid!(
                "{label}: tensor `{tensor}` of shape {want:?} is missing although config.json asks for it; near \
                 names: {}",
                closest_names(tensor, names, 3).join(", ")
            );
        };
        if shape != want {
            invalid!("{label}: tensor `{tensor}` has shape {shape:?}, config.json asks for {want:?}");
        }
        if element.plain().is_none() {
            invalid!(
                "{label}: tensor `{tensor}` has the ggml type {element}, which cannot be run; quantize the model to f32, \
                 f16, bf16, q4_0, q5_0, q8_0, q4_k, q5_k, q6_k, iq4_nl, tq1_0, tq2_0 or mxfp4"
            );
        }
        if !element.is_readable_float() {
            invalid!(
                "{label}: tensor `{tensor}` has type {element}; want F32, F16 or BF16, convert it first"
            );
        }
        Ok(())
    }
}
