//! BigNet: residual blocks of three linears with ReLU between them, LayerNorm between the blocks; rows of numbers in
//! and out.
//!
//! Its config is our own, as such networks are published without one:
//! `{"architectures": ["BigNet"], "dim": 1024, "blocks": 6, "layer_norm_eps": 1e-5}`; `blocks` and `layer_norm_eps` may
//! be left out. Tensors have the names of nested PyTorch `Sequential`s: block n is `model.{2n}` with linears
//! `model.{2n}.model.{0, 2, 4}`, and behind every block but the last stands the norm `model.{2n+1}`.

use super::builder::Builder;
use super::config::Config;
use super::reader::Reader;
use crate::error::Result;
use crate::graph::{Function, Graph, NodeId, Op, Role};

/// Blocks of the network as first published.
const BLOCKS: usize = 6;
/// Rows of a batch at most. They have nothing to do with each other.
const ROWS: usize = 4096;

/// The graph of a BigNet whose tensors are in `reader`.
pub(crate) fn graph(config: &Config, reader: &Reader) -> Result<Graph> {
    let dim = config.size("dim")?;
    let blocks = config.optional_size("blocks")?.unwrap_or(BLOCKS);
    let eps = config.positive("layer_norm_eps", 1e-5)? as f32;
    let mut b = Builder::new(reader);
    let input = b.graph.push("input", Op::Input, &[], dim);
    // Rows that nobody wants need not be computed.
    let mut x = b.same_width("output_rows".into(), Op::OutputRows, &[input]);
    for index in 0..blocks {
        x = block(&mut b, dim, index, x)?;
        if index + 1 < blocks {
            let at = 2 * index + 1;
            let weight = b.vector(format!("model.{at}.weight"), dim)?;
            let bias = b.vector(format!("model.{at}.bias"), dim)?;
            x = b.same_width(format!("norms.{index}"), Op::LayerNorm { weight, bias, eps }, &[x]);
        }
    }
    b.graph.context = ROWS;
    Ok(b.graph)
}

fn block(b: &mut Builder<'_>, dim: usize, index: usize, input: NodeId) -> Result<NodeId> {
    let mut x = input;
    for (nth, at) in [0, 2, 4].into_iter().enumerate() {
        let tensor = format!("model.{}.model.{at}", 2 * index);
        let weight = b.matrix(format!("{tensor}.weight"), dim, dim, Role::Linear)?;
        let bias = b.vector(format!("{tensor}.bias"), dim)?;
        x = b.linear(format!("blocks.{index}.linear.{nth}"), x, weight, Some(bias));
        if nth < 2 {
            x = b.same_width(format!("blocks.{index}.relu.{nth}"), Op::Activate(Function::Relu), &[x]);
        }
    }
    Ok(b.same_width(format!("blocks.{index}.residual"), Op::Add, &[input, x]))
}
