//! The cost file: what every layer of an assignment costs, for cost models of other hardware.
//!
//! A JSON object:
//!
//! | key | is |
//! |---|---|
//! | `schema`, `version` | [`SCHEMA`] and [`VERSION`]; the version grows when a key changes its meaning |
//! | `about` | object of texts: model, device, conditions of the times, as the caller has them |
//! | `layers` | one object per matrix that the graph reads, in the order of the weights |
//! | `attention` | one object per KV cache |
//! | `totals` | sums over the layers, and the measured seconds of whole passes |
//!
//! A layer:
//!
//! | key | is |
//! |---|---|
//! | `name`, `role` | layer as in a qconfig; `linear`, `head` or `embedding` (which is also the head where that is tied) |
//! | `rows`, `cols` | output and input features |
//! | `weight`, `activation`, `bias` | formats; `null`: f32, as computed |
//! | `macs_per_token` | multiplications of weights; 0 for a table that is only looked up |
//! | `weight_bytes` | packed bytes: codes, scales, padding, exceptions |
//! | `weight_bytes_per_token` | bytes read for one token at batch 1: all of them for a product, a row for a lookup |
//! | `activation_bytes_in` | bytes of one token's input as the activation format stores it, scales included |
//! | `activation_bytes_out` | bytes of one token's output, f32 |
//! | `layout` | the packed words, see below |
//! | `seconds` | measured seconds of this layer in a pass; `null` where not measured |
//!
//! `layout` has `codes` (kind, and what it takes to read them) and `code_bits` (bits per field; a field of digits holds
//! several codes), `scale` and `scale_bits` (per record), `group_cols` and `group_rows` (weights that share a record, or
//! `group_flat` of the flattened matrix), `groups`, `row_words`, `code_words`, `scale_words` (32-bit words) and
//! `exceptions` (weights stored beside the codes, 12 bytes each; `null` where not counted).
//!
//! An attention object has `macs_per_cached_token` and `kv_bytes_per_cached_token` of one new token, caches in f32.

use serde_json::{Value, json};

use crate::error::{Result, invalid};
use crate::format::{ActivationFormat, ActivationScope, Codes, Groups, Scale, Spec, block_tile};
use crate::graph::{Assignment, Graph, Op, Role, Weight, WeightId};

/// Value of `schema` in a cost file.
pub const SCHEMA: &str = "anybit-cost";
/// Value of `version` in a cost file.
pub const VERSION: u32 = 1;
/// Bytes of an exception: row, column, value.
const EXCEPTION: u64 = 12;

/// What a cost file says beyond graph and assignment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Label and value of model, device and whatever the times depend on.
    pub about: &'a [(String, String)],
    /// Measured seconds of each weight in a pass, indexed by [`WeightId`]; `None` or beyond the end: not measured.
    pub seconds: &'a [Option<f64>],
    /// Measured seconds of all steps that read no matrix.
    pub rest_seconds: Option<f64>,
    /// Measured seconds of the pass as a whole.
    pub whole_seconds: Option<f64>,
    /// Exceptions of each weight, indexed by [`WeightId`]; `None` or beyond the end: not counted.
    pub exceptions: &'a [Option<u64>],
}

/// The cost file of `assignment`, see [`self`](crate::search::report).
///
/// # Errors
/// When the assignment is not one of this graph, or a format cannot hold a layer.
pub fn cost_file(graph: &Graph, assignment: &Assignment, facts: Facts<'_>) -> Result<Value> {
    if assignment.specs.len() != graph.weights.len() {
        invalid!(
            "an assignment of {} weights for a graph of {}; make it from this graph",
            assignment.specs.len(),
            graph.weights.len()
        );
    }
    let mut layers = Vec::new();
    let mut totals = Totals::default();
    for (id, weight) in graph.weights.iter().enumerate().filter(|(_, w)| w.role != Role::Vector) {
        let exceptions = facts.exceptions.get(id).copied().flatten();
        let seconds = facts.seconds.get(id).copied().flatten().filter(|s| s.is_finite());
        layers.push(layer(graph, id, weight, assignment.specs[id], exceptions, seconds, &mut totals)?);
    }
    let about = facts.about.iter().map(|(key, value)| (key.clone(), Value::String(value.clone())));
    Ok(json!({
        "schema": SCHEMA,
        "version": VERSION,
        "about": Value::Object(about.collect()),
        "layers": layers,
        "attention": attention(graph),
        "totals": {
            "weights": totals.weights,
            "macs_per_token": totals.macs,
            "weight_bytes": totals.bytes,
            "weight_bytes_per_token": totals.moved,
            "activation_bytes_in": totals.read,
            "activation_bytes_out": totals.written,
            "seconds_of_layers": totals.seconds,
            "seconds_of_rest": facts.rest_seconds,
            "seconds_of_whole_pass": facts.whole_seconds,
        },
    }))
}

#[derive(Default)]
struct Totals {
    weights: u64,
    macs: u64,
    bytes: u64,
    moved: u64,
    read: u64,
    written: u64,
    seconds: Option<f64>,
}

fn layer(
    graph: &Graph,
    id: WeightId,
    weight: &Weight,
    spec: Spec,
    exceptions: Option<u64>,
    seconds: Option<f64>,
    totals: &mut Totals,
) -> Result<Value> {
    let layout = spec.weight.layout(weight.rows, weight.cols)?;
    let (rows, cols) = (weight.rows as u64, weight.cols as u64);
    let uses =
        |is_use: fn(&Op, WeightId) -> bool| graph.nodes.iter().filter(|n| is_use(&n.op, id)).count() as u64;
    let products = uses(|op, id| matches!(op, Op::Linear { weight, .. } if *weight == id));
    let lookups =
        uses(|op, id| matches!(op, Op::Embed { table } | Op::EmbedPosition { table } if *table == id));
    let bytes = (layout.code_words + layout.scale_words) as u64 * 4 + exceptions.unwrap_or(0) * EXCEPTION;
    // A lookup reads the words of one row and its share of the scales.
    let row_bytes =
        (layout.code_words as u64 * 4).div_ceil(rows) + (layout.scale_words as u64 * 4).div_ceil(rows);
    let macs = products * rows * cols;
    let moved = products * bytes + lookups * row_bytes;
    let read = products * activation_bytes(spec.activation, weight.cols);
    let written = products * rows * 4 + lookups * cols * 4;
    totals.weights += rows * cols;
    totals.macs += macs;
    totals.bytes += bytes;
    totals.moved += moved;
    totals.read += read;
    totals.written += written;
    totals.seconds = match (totals.seconds, seconds) {
        (None, seconds) => seconds,
        (Some(sum), seconds) => Some(sum + seconds.unwrap_or(0.0)),
    };
    let (group_rows, group_cols, group_flat) = match layout.scheme.groups {
        Groups::Flat(group) => (None, None, Some(group)),
        _ => (Some(layout.group_rows), Some(layout.group), None),
    };
    Ok(json!({
        "name": weight.layer(),
        "role": match weight.role {
            Role::Linear => "linear",
            Role::Head => "head",
            Role::Embedding => "embedding",
            Role::Vector => "vector",
        },
        "rows": rows,
        "cols": cols,
        "weight": spec.weight.to_string(),
        "activation": spec.activation.map(|format| format.to_string()),
        "bias": spec.bias.map(|format| format.to_string()),
        "macs_per_token": macs,
        "weight_bytes": bytes,
        "weight_bytes_per_token": moved,
        "activation_bytes_in": read,
        "activation_bytes_out": written,
        "layout": {
            "codes": codes(layout.scheme.codes),
            "code_bits": layout.scheme.codes.bits(),
            "scale": scale(layout.scheme.scale),
            "scale_bits": layout.scale_bits,
            "group_rows": group_rows,
            "group_cols": group_cols,
            "group_flat": group_flat,
            "groups": layout.groups,
            "row_words": layout.row_words,
            "code_words": layout.code_words,
            "scale_words": layout.scale_words,
            "exceptions": exceptions,
        },
        "seconds": seconds,
    }))
}

/// Bytes of one token's input of `cols` values: codes, then one record per group of columns.
fn activation_bytes(format: Option<ActivationFormat>, cols: usize) -> u64 {
    let Some(format) = format else { return cols as u64 * 4 };
    let (bits, scale_bits) = match format {
        ActivationFormat::Int { bits, scope: ActivationScope::Tensor | ActivationScope::Row } => {
            (u64::from(bits), 32)
        }
        // Scale and zero point.
        ActivationFormat::TorchDynamic => (8, 64),
        ActivationFormat::Element { element, block } => {
            let (_, width) = block_tile(block, cols);
            let groups = if element.scale_bits() == 0 { 0 } else { cols.div_ceil(width.max(1)) };
            (element.bits().into(), groups as u64 * u64::from(element.scale_bits()))
        }
        ActivationFormat::NvFp4 => (4, cols.div_ceil(16) as u64 * 8 + 32),
    };
    (cols as u64 * bits).div_ceil(8) + scale_bits.div_ceil(8)
}

fn attention(graph: &Graph) -> Vec<Value> {
    let of_node = |node: &crate::graph::Node| match node.op {
        Op::Attention { heads, kv_heads, head_dim, .. } => Some(json!({
            "name": node.name,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            // Scores, then the sum of values.
            "macs_per_cached_token": 2 * heads * head_dim,
            "kv_bytes_per_cached_token": 2 * kv_heads * head_dim * 4,
        })),
        _ => None,
    };
    graph.nodes.iter().filter_map(of_node).collect()
}

fn codes(codes: Codes) -> Value {
    match codes {
        Codes::F32 => json!({ "kind": "f32" }),
        Codes::F16 => json!({ "kind": "f16" }),
        Codes::Bf16 => json!({ "kind": "bf16" }),
        Codes::Signed(_) => json!({ "kind": "signed" }),
        Codes::Sign => json!({ "kind": "sign" }),
        Codes::Unsigned(_) => json!({ "kind": "unsigned" }),
        Codes::Table(bits) => json!({ "kind": "table", "entries": 1u64 << bits }),
        Codes::Digits { base, digits, .. } => {
            json!({ "kind": "digits", "base": base, "digits_per_field": digits })
        }
        Codes::Digits9 => json!({ "kind": "digits", "base": 11, "digits_per_field": 9 }),
        Codes::Stream8 => json!({ "kind": "signed", "rows_padded": false }),
        Codes::Wide(_) => json!({ "kind": "wide" }),
    }
}

fn scale(scale: Scale) -> Value {
    match scale {
        Scale::Fixed(fraction) => json!({ "kind": "fixed", "fraction_bits": fraction }),
        Scale::F32 => json!({ "kind": "f32" }),
        Scale::F16 => json!({ "kind": "f16" }),
        Scale::Exponent { offset, fraction } => {
            json!({ "kind": "power_of_two", "bias": offset, "fraction_bits": fraction })
        }
        Scale::F16Zero => json!({ "kind": "f16_and_zero_point" }),
        Scale::MinimumRange => json!({ "kind": "f16_minimum_and_range" }),
        Scale::E4m3 => json!({ "kind": "e4m3_times_f32_of_matrix" }),
        Scale::K4 => json!({ "kind": "ggml_k4" }),
        Scale::K6 => json!({ "kind": "ggml_k6" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Weights;
    use crate::model::Model;

    fn assignment(model: &Model, spec: &str) -> Assignment {
        Assignment::uniform(model.graph(), &model.native_formats(), spec.parse().unwrap())
    }

    #[test]
    fn counts_are_those_of_packed_weights() {
        let model = Model::embedded().unwrap();
        let graph = model.graph();
        for text in ["int4(group=32)", "mxint8@int8", "nvfp4", "f32", "base11(layout=9in32,group=256)"] {
            let assignment = assignment(&model, text);
            let seconds: Vec<Option<f64>> = graph.weights.iter().map(|_| Some(0.5)).collect();
            let about = [("model".to_owned(), "tiny".to_owned())];
            let facts = Facts { about: &about, seconds: &seconds, ..Facts::default() };
            let file = cost_file(graph, &assignment, facts).unwrap();
            assert_eq!((&file["schema"], &file["version"]), (&json!(SCHEMA), &json!(VERSION)));
            let layers = file["layers"].as_array().unwrap();
            let matrices = graph.weights.iter().enumerate().filter(|(_, w)| w.role != Role::Vector);
            let mut bytes = 0;
            for ((id, weight), layer) in matrices.zip(layers) {
                assert_eq!(layer["name"], weight.layer());
                let packed = model.packed(id, assignment.specs[id].weight).unwrap();
                let exceptions = packed.exceptions.len() as u64 * EXCEPTION;
                let want = packed.bytes() as u64 - exceptions;
                assert_eq!(layer["weight_bytes"], want, "{text} {}", weight.tensor);
                assert_eq!(layer["layout"]["code_words"], packed.codes.len());
                assert_eq!(layer["layout"]["scale_words"], packed.scales.len());
                assert_eq!(layer["seconds"], 0.5);
                bytes += want;
            }
            assert_eq!(file["totals"]["weight_bytes"], bytes);
            assert_eq!(file["totals"]["seconds_of_layers"], 0.5 * layers.len() as f64);
            assert_eq!(file["attention"].as_array().unwrap().len(), graph.kv_widths.len());
            // Every product of the graph, one after another.
            let products = graph.nodes.iter().filter_map(|node| match node.op {
                Op::Linear { weight, .. } => Some(graph.weights[weight].rows * graph.weights[weight].cols),
                _ => None,
            });
            assert_eq!(file["totals"]["macs_per_token"], products.sum::<usize>());
            assert!(!file.to_string().contains("NaN"));
        }
    }

    #[test]
    fn activations_are_counted_with_their_scales() {
        let bytes = |text: &str| activation_bytes(Some(text.parse().unwrap()), 64);
        assert_eq!(activation_bytes(None, 64), 256);
        assert_eq!(bytes("int8"), 64 + 4);
        assert_eq!(bytes("int4(scale=row)"), 32 + 4);
        assert_eq!(bytes("torch_dynamic"), 64 + 8);
        assert_eq!(bytes("mxint8"), 64 + 2);
        assert_eq!(bytes("integer(8,4)"), 64);
        assert_eq!(bytes("nvfp4"), 32 + 4 + 4);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let model = Model::embedded().unwrap();
        let mut wrong = assignment(&model, "int4");
        wrong.specs.pop();
        let error = cost_file(model.graph(), &wrong, Facts::default()).unwrap_err();
        assert!(error.to_string().contains("assignment of"));
        let facts = Facts { seconds: &[Some(f64::NAN)], exceptions: &[Some(2)], ..Facts::default() };
        let file = cost_file(model.graph(), &assignment(&model, "int4"), facts).unwrap();
        assert_eq!(file["layers"][0]["seconds"], Value::Null);
        assert_eq!(file["totals"]["seconds_of_layers"], Value::Null);
        assert_eq!(file["layers"][1]["layout"]["exceptions"], Value::Null);
    }
}
