//! What assignments cost in bytes: exact, and known before anything runs.

use std::collections::HashMap;

use super::{Space, Variant, VariantFacts};
use crate::error::Result;
use crate::eval::{TensorKind, TensorMemory};
use crate::format::Format;
use crate::graph::{Assignment, Graph, Role, WeightId};

/// Sizes of the weights of a graph in every format that has been packed, exceptions included.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    facts: HashMap<Variant, VariantFacts>,
    tensors: Vec<(Role, usize, usize)>,
}

impl Costs {
    /// Nothing packed yet.
    pub fn new(graph: &Graph) -> Self {
        let tensors = graph.weights.iter().map(|w| (w.role, w.rows, w.cols)).collect();
        Self { facts: HashMap::new(), tensors }
    }

    /// Adds what packing found.
    pub fn extend(&mut self, facts: HashMap<Variant, VariantFacts>) {
        self.facts.extend(facts);
    }

    /// Whether this variant has been packed.
    pub fn knows(&self, variant: Variant) -> bool {
        self.facts.contains_key(&variant)
    }

    /// The matrices of `assignment` that have not been packed yet.
    pub fn missing(&self, assignment: &Assignment) -> Vec<Variant> {
        let matrices = (0..self.tensors.len()).filter(|&id| self.tensors[id].0 != Role::Vector);
        matrices.map(|id| (id, assignment.specs[id].weight)).filter(|&variant| !self.knows(variant)).collect()
    }

    /// Packed bytes of a dimension of `space` with one of its candidates.
    pub fn bytes(&self, space: &Space, dimension: usize, choice: usize) -> u64 {
        self.of(space, dimension, choice).map(|facts| facts.bytes).sum()
    }

    /// Squared error of the weights of a dimension over their squared sum, the mean over tied layers.
    pub fn noise(&self, space: &Space, dimension: usize, choice: usize) -> f64 {
        let noise: f64 = self.of(space, dimension, choice).map(|facts| facts.noise).sum();
        noise / space.dimensions[dimension].weights.len() as f64
    }

    fn of(&self, space: &Space, dimension: usize, choice: usize) -> impl Iterator<Item = &VariantFacts> {
        let dimension = &space.dimensions[dimension];
        let format = dimension.candidates[choice].weight;
        dimension.weights.iter().filter_map(move |&id| self.facts.get(&(id, format)))
    }

    /// Bytes of everything `space` does not search.
    ///
    /// # Errors
    /// When a format cannot hold a layer.
    pub fn fixed_bytes(&self, space: &Space) -> Result<u64> {
        let searched = |id: &WeightId| space.dimensions.iter().any(|d| d.weights.contains(id));
        let fixed = (0..self.tensors.len()).filter(|id| !searched(id));
        fixed.map(|id| self.weight_bytes(id, &space.base)).sum()
    }

    fn weight_bytes(&self, id: WeightId, assignment: &Assignment) -> Result<u64> {
        let (role, rows, cols) = self.tensors[id];
        let format = if role == Role::Vector { Format::F32 } else { assignment.specs[id].weight };
        if let Some(facts) = self.facts.get(&(id, format)) {
            return Ok(facts.bytes);
        }
        let layout = format.layout(rows, cols)?;
        Ok((layout.code_words + layout.scale_words) as u64 * 4)
    }

    /// Bytes of the whole model, and bits per weight of its block linears.
    ///
    /// # Errors
    /// As [`Costs::fixed_bytes`].
    pub fn size(&self, assignment: &Assignment) -> Result<(u64, f64)> {
        let (mut bytes, mut linear_bytes, mut weights) = (0, 0, 0);
        for (id, &(role, rows, cols)) in self.tensors.iter().enumerate() {
            let of = self.weight_bytes(id, assignment)?;
            bytes += of;
            if role == Role::Linear {
                linear_bytes += of;
                weights += (rows * cols) as u64;
            }
        }
        Ok((bytes, linear_bytes as f64 * 8.0 / weights.max(1) as f64))
    }

    /// Bytes by nominal widths: block linears at the width of their codes, everything else at 32 bits; scales and
    /// padding are not counted.
    ///
    /// # Errors
    /// As [`Costs::fixed_bytes`].
    pub fn nominal_bytes(&self, assignment: &Assignment) -> Result<u64> {
        let mut bits = 0;
        for (id, &(role, rows, cols)) in self.tensors.iter().enumerate() {
            bits += match role {
                Role::Linear => {
                    let format = assignment.specs[id].weight;
                    TensorMemory::new("", TensorKind::Linear, String::new(), format, rows, cols)?.code_bits
                }
                _ => (rows * cols) as u64 * 32,
            };
        }
        Ok(bits / 8)
    }
}
