//! Checks of a graph and of batches, so that the ops can rely on their shapes.

use super::{Batch, Graph, Mask, Node, Op, Role, WeightId};
use crate::error::{Result, invalid};

impl Graph {
    /// Checks that every node has the inputs, weights and widths that its op needs, and returns for
    /// each node whether its rows are the batch's outputs (it comes after an [`Op::OutputRows`]) or all tokens.
    ///
    /// # Errors
    /// Names the first node that does not fit.
    pub fn check(&self) -> Result<Vec<bool>> {
        let graph = self;
        if let Some(weight) = graph.weights.iter().find(|w| w.rows == 0 || w.cols == 0) {
            invalid!("weight {} is empty: {} x {}", weight.tensor, weight.rows, weight.cols);
        }
        let mut selected = Vec::with_capacity(graph.nodes.len());
        for (index, node) in graph.nodes.iter().enumerate() {
            let Some(&bad) = node.inputs.iter().find(|&&input| input >= index) else {
                check_node(graph, node)?;
                let rows: Vec<bool> = node.inputs.iter().map(|&input| selected[input]).collect();
                if rows.iter().any(|&r| r != rows[0]) {
                    invalid!("node {}: some inputs hold all tokens and some only the output rows", node.name);
                }
                let after = rows.first().copied().unwrap_or(false);
                if after && matches!(node.op, Op::Rope { .. } | Op::Attention { .. } | Op::OutputRows) {
                    invalid!(
                        "node {}: {} must stand before the output rows are taken",
                        node.name,
                        op_name(&node.op)
                    );
                }
                selected.push(after || node.op == Op::OutputRows);
                continue;
            };
            invalid!("node {}: input {bad} is not before node {index}", node.name);
        }
        if graph.nodes.is_empty() {
            invalid!("the graph has no nodes");
        }
        check_caches(graph)?;
        if let Some(second) = graph.nodes.iter().filter(|node| node.op == Op::Input).nth(1) {
            invalid!("node {}: a batch has the rows of one input, this is a second one", second.name);
        }
        Ok(selected)
    }
}

/// Layers share a KV cache only if nothing in it outlives a batch, and then only with heads of one size.
fn check_caches(graph: &Graph) -> Result<()> {
    let mut users: Vec<Option<(Mask, usize)>> = vec![None; graph.kv_widths.len()];
    for node in &graph.nodes {
        let Op::Attention { layer, mask, head_dim, .. } = node.op else { continue };
        match users[layer].replace((mask, head_dim)) {
            None => {}
            Some(other) if mask == Mask::Full && other == (mask, head_dim) => {}
            Some(_) => invalid!("node {}: KV cache {layer} belongs to another layer", node.name),
        }
    }
    Ok(())
}

fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Embed { .. } => "embed",
        Op::EmbedPosition { .. } => "embed_position",
        Op::EmbedSegment { .. } => "embed_segment",
        Op::Input => "input",
        Op::RmsNorm { .. } => "rms_norm",
        Op::LayerNorm { .. } => "layer_norm",
        Op::Linear { .. } => "linear",
        Op::Slice { .. } => "slice",
        Op::Rope { .. } => "rope",
        Op::Attention { .. } => "attention",
        Op::Activate(_) => "activate",
        Op::Add => "add",
        Op::Mul => "mul",
        Op::OutputRows => "output_rows",
    }
}

fn check_node(graph: &Graph, node: &Node) -> Result<()> {
    let inputs = match node.op {
        Op::Embed { .. } | Op::EmbedPosition { .. } | Op::EmbedSegment { .. } | Op::Input => 0,
        Op::Attention { .. } => 3,
        Op::Add | Op::Mul => 2,
        _ => 1,
    };
    if node.inputs.len() != inputs {
        let name = op_name(&node.op);
        invalid!("node {}: {name} takes {inputs} inputs, got {}", node.name, node.inputs.len());
    }
    if node.width == 0 {
        invalid!("node {}: width is 0", node.name);
    }
    let width = |input: usize| graph.nodes[node.inputs[input]].width;
    let equal = |what: &str, got: usize, want: usize| match got == want {
        true => Ok(()),
        false => invalid!("node {}: {what} is {got}, want {want}", node.name),
    };
    // A product that saturates equals no width.
    let product = |a: usize, b: usize| a.saturating_mul(b);
    match &node.op {
        Op::Embed { table } | Op::EmbedSegment { table } => {
            equal("columns of the table", matrix(graph, node, *table)?.1, node.width)?;
        }
        Op::Input => {}
        Op::EmbedPosition { table } => {
            let (rows, cols) = matrix(graph, node, *table)?;
            equal("columns of the table", cols, node.width)?;
            if rows < graph.context {
                invalid!(
                    "node {}: the table has {rows} positions, want {} (context)",
                    node.name,
                    graph.context
                );
            }
        }
        Op::RmsNorm { weight, .. } => {
            let length = vector(graph, node, *weight)?;
            if !node.width.is_multiple_of(length) {
                invalid!(
                    "node {}: the width {} is no multiple of the {length} weights",
                    node.name,
                    node.width
                );
            }
            equal("input width", width(0), node.width)?;
        }
        Op::LayerNorm { weight, bias, .. } => {
            equal("length of weight", vector(graph, node, *weight)?, node.width)?;
            equal("length of bias", vector(graph, node, *bias)?, node.width)?;
            equal("input width", width(0), node.width)?;
        }
        Op::Linear { weight, bias } => {
            let (rows, cols) = matrix(graph, node, *weight)?;
            equal("input width", width(0), cols)?;
            equal("rows of weight", rows, node.width)?;
            if let Some(bias) = bias {
                equal("length of bias", vector(graph, node, *bias)?, node.width)?;
            }
        }
        Op::Slice { offset } => {
            if offset.checked_add(node.width).is_none_or(|end| end > width(0)) {
                let (from, of) = (offset, width(0));
                invalid!(
                    "node {}: columns {from} .. {from} + {} leave the input's {of}",
                    node.name,
                    node.width
                );
            }
        }
        Op::Rope { heads, head_dim, inverse_frequency } => {
            equal("heads * head_dim", product(*heads, *head_dim), node.width)?;
            equal("twice the number of frequencies", product(2, inverse_frequency.len()), *head_dim)?;
            equal("input width", width(0), node.width)?;
        }
        Op::Attention { layer, heads, kv_heads, head_dim, mask, .. } => {
            if *mask == Mask::Window(0) {
                invalid!("node {}: a window of 0 positions sees nothing", node.name);
            }
            let kv_width = product(*kv_heads, *head_dim);
            if *kv_heads == 0 || heads % kv_heads != 0 {
                invalid!("node {}: {heads} heads is not a multiple of {kv_heads} KV heads", node.name);
            }
            let Some(&cache) = graph.kv_widths.get(*layer) else {
                invalid!("node {}: KV cache {layer} of {} does not exist", node.name, graph.kv_widths.len());
            };
            equal("heads * head_dim", product(*heads, *head_dim), node.width)?;
            equal("width of q", width(0), node.width)?;
            equal("width of k", width(1), kv_width)?;
            equal("width of v", width(2), kv_width)?;
            equal("width of the KV cache", cache, kv_width)?;
        }
        Op::Add | Op::Mul => {
            equal("width of the first input", width(0), node.width)?;
            equal("width of the second input", width(1), node.width)?;
        }
        Op::Activate(_) | Op::OutputRows => equal("input width", width(0), node.width)?,
    }
    Ok(())
}

fn matrix(graph: &Graph, node: &Node, id: WeightId) -> Result<(usize, usize)> {
    match graph.weights.get(id) {
        Some(w) if w.role != Role::Vector => Ok((w.rows, w.cols)),
        Some(w) => invalid!("node {}: weight {} is a vector, want a matrix", node.name, w.tensor),
        None => invalid!("node {}: weight {id} of {} does not exist", node.name, graph.weights.len()),
    }
}

fn vector(graph: &Graph, node: &Node, id: WeightId) -> Result<usize> {
    match graph.weights.get(id) {
        Some(w) if w.role == Role::Vector => Ok(w.cols),
        Some(w) => invalid!("node {}: weight {} is a matrix, want a vector", node.name, w.tensor),
        None => invalid!("node {}: weight {id} of {} does not exist", node.name, graph.weights.len()),
    }
}

impl Batch {
    /// Checks the batch against `graph`, KV caches of `context` positions, and the number of tokens that every
    /// sequence slot holds already.
    ///
    /// # Errors
    /// Names the first token or output that does not fit.
    pub fn check(&self, graph: &Graph, context: usize, lengths: &[usize]) -> Result<()> {
        let batch = self;
        if batch.tokens.is_empty() || batch.outputs.is_empty() {
            invalid!("an empty batch; give at least one token and one output row");
        }
        check_inputs(graph, batch)?;
        let has_ids = graph.nodes.iter().any(|node| matches!(node.op, Op::Embed { .. }));
        let entries = if has_ids { graph.token_count() } else { usize::MAX };
        let segments = graph.segment_count();
        let bidirectional = graph.is_bidirectional();
        let spans = batch.spans();
        let mut seen = vec![false; lengths.len()];
        for (index, token) in batch.tokens.iter().enumerate() {
            let (sequence, position) = (token.sequence as usize, token.position as usize);
            if token.id as usize >= entries {
                invalid!(
                    "token {index} of the batch has id {}; the vocabulary ends at {}",
                    token.id,
                    entries - 1
                );
            }
            if let Some(segments) = segments.filter(|&segments| token.segment as usize >= segments) {
                invalid!(
                    "token {index} of the batch is of segment {}; the model has {segments}, from 0",
                    token.segment
                );
            }
            if position >= context {
                invalid!(
                    "token {index} of the batch has position {position}; the context is {context} tokens: \
                 shorten the text or split it into windows"
                );
            }
            let Some(&cached) = lengths.get(sequence) else {
                invalid!(
                    "token {index} of the batch is of sequence {sequence}; there are {} slots",
                    lengths.len()
                );
            };
            let first = spans[index].0 as usize == index;
            if first && std::mem::replace(&mut seen[sequence], true) {
                invalid!("token {index} of the batch: the tokens of sequence {sequence} must stand together");
            }
            if first && bidirectional && position > 0 {
                invalid!(
                    "token {index} of the batch has position {position} at the begin of sequence {sequence}; in this \
                     model every token sees the whole sequence: feed it in one batch, from position 0"
                );
            }
            if first && position > cached {
                invalid!(
                    "token {index} of the batch has position {position}, but sequence {sequence} holds only \
                 {cached} tokens: feed the earlier ones first"
                );
            }
            if !first && position != batch.tokens[index - 1].position as usize + 1 {
                let before = batch.tokens[index - 1].position;
                invalid!(
                    "token {index} of the batch has position {position} after {before}; want {}",
                    before + 1
                );
            }
        }
        let mut next = 0;
        for &output in &batch.outputs {
            if output < next || output as usize >= batch.tokens.len() {
                invalid!(
                    "output row {output}: want ascending rows below {} (tokens of the batch)",
                    batch.tokens.len()
                );
            }
            next = output + 1;
        }
        Ok(())
    }
}

/// Rows of numbers: as many as tokens, and none where no node reads them.
fn check_inputs(graph: &Graph, batch: &Batch) -> Result<()> {
    let (rows, width) = (batch.tokens.len(), graph.input_width().unwrap_or(0));
    if batch.inputs.len() != rows.saturating_mul(width) {
        invalid!("the batch has {} input values; want {rows} rows (tokens) of {width}", batch.inputs.len());
    }
    if let Some(at) = batch.inputs.iter().position(|value| !value.is_finite()) {
        let (row, column) = (at / width, at % width);
        invalid!("input row {row}, column {column} is {}; want finite numbers", batch.inputs[at]);
    }
    Ok(())
}
