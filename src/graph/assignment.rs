//! Which format every weight of a graph has: from one spec for all linears, or from a qconfig.

use super::{Graph, Role, Weight, WeightId};
use crate::error::{Error, Result, closest_names, invalid};
use crate::format::{Format, Spec};
use serde_json::Value;

/// One [`Spec`] per weight of a graph.
///
/// Vectors (norm weights, biases) always hold [`Format::F32`]; embeddings never have an activation format.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Indexed by [`super::WeightId`].
    pub specs: Vec<Spec>,
}

impl Assignment {
    /// `spec` for every [`Role::Linear`] weight; embeddings and the head keep `native[weight]`, the
    /// format they have in the checkpoint. `native` is indexed by weight id.
    pub fn uniform(graph: &Graph, native: &[Format], spec: Spec) -> Self {
        let mut assignment = Self::native(graph, native);
        for (slot, weight) in assignment.specs.iter_mut().zip(&graph.weights) {
            if weight.role == Role::Linear {
                *slot = spec;
            }
        }
        assignment
    }

    /// Every matrix in the format it has in the checkpoint, every vector in f32.
    pub fn native(graph: &Graph, native: &[Format]) -> Self {
        let format = |(id, weight): (usize, &Weight)| match weight.role {
            Role::Vector => Format::F32,
            _ => native.get(id).copied().unwrap_or(Format::F32),
        };
        Self { specs: graph.weights.iter().enumerate().map(format).map(Spec::from).collect() }
    }

    /// The assignment a qconfig describes: a JSON object from layer name (the tensor name without
    /// `.weight`) or `*` pattern to a spec, or to an integer N that stands for `qlinear(bits=N)`.
    ///
    /// A pattern means the block linears it matches, as `--format` does; head and embeddings are named exactly.
    /// An exact name wins over patterns, and of several patterns the last one holds. Layers no entry names keep
    /// their format in the checkpoint. Vectors are never matched.
    ///
    /// # Errors
    /// When `config` is not an object, a value is not a spec, a key matches no layer (near names are
    /// listed), or a spec with an activation format is meant for an embedding.
    pub fn from_qconfig(graph: &Graph, native: &[Format], config: &Value) -> Result<Self> {
        let Value::Object(entries) = config else {
            invalid!("qconfig is not a JSON object; write {{\"layer name or pattern\": \"spec\", …}}");
        };
        let mut assignment = Self::native(graph, native);
        let is_pattern = |entry: &(&String, &Value)| entry.0.contains('*');
        let (patterns, names): (Vec<_>, Vec<_>) = entries.iter().partition(is_pattern);
        for (key, value) in patterns.into_iter().chain(names) {
            let spec = spec_of(key, value)?;
            let wanted = key.strip_suffix(".weight").unwrap_or(key);
            let is_match = |weight: &Weight| match weight.role {
                Role::Linear => matches_pattern(wanted, weight.layer()),
                Role::Head | Role::Embedding => wanted == weight.layer(),
                Role::Vector => false,
            };
            let mut matched = false;
            for (slot, weight) in assignment.specs.iter_mut().zip(&graph.weights) {
                if !is_match(weight) {
                    continue;
                }
                if weight.role == Role::Embedding && (spec.activation.is_some() || spec.bias.is_some()) {
                    invalid!(
                        "qconfig `{key}`: `{spec}` quantizes activations or a bias, but an embedding is looked up and \
                         has none; use a weight format such as `{}`",
                        spec.weight
                    );
                }
                matched = true;
                *slot = spec;
            }
            if !matched {
                return Err(no_such_layer(graph, key, wanted));
            }
        }
        Ok(assignment)
    }

    /// The bias `values` of the linear layer of `weight`, in the format its spec asks for.
    ///
    /// # Errors
    /// When the format cannot hold the values.
    pub fn bias(&self, weight: WeightId, values: &[f32]) -> Result<Vec<f32>> {
        match self.specs[weight].bias {
            None => Ok(values.to_vec()),
            Some(format) => Ok(format.encode(values, 1, values.len())?.decode()),
        }
    }

    /// The qconfig that gives this assignment: every matrix with its spec, in graph order.
    pub fn to_qconfig(&self, graph: &Graph) -> Value {
        let entries = matrices(graph, self)
            .map(|(weight, spec)| (weight.layer().to_owned(), Value::String(spec.to_string())));
        Value::Object(entries.collect())
    }

    /// How many tensors and weights each spec has, over the matrices, in order of first appearance.
    pub fn mix(&self, graph: &Graph) -> Vec<(Spec, usize, usize)> {
        let mut mix: Vec<(Spec, usize, usize)> = Vec::new();
        for (weight, spec) in matrices(graph, self) {
            let count = weight.rows * weight.cols;
            match mix.iter_mut().find(|entry| entry.0 == spec) {
                Some(entry) => {
                    entry.1 += 1;
                    entry.2 += count;
                }
                None => mix.push((spec, 1, count)),
            }
        }
        mix
    }
}

fn matrices<'a>(graph: &'a Graph, assignment: &'a Assignment) -> impl Iterator<Item = (&'a Weight, Spec)> {
    let pairs = graph.weights.iter().zip(assignment.specs.iter().copied());
    pairs.filter(|(weight, _)| weight.role != Role::Vector)
}

fn spec_of(key: &str, value: &Value) -> Result<Spec> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(bits) => format!("qlinear(bits={bits})"),
        other => invalid!(
            "qconfig `{key}`: got {other}, want a spec such as \"int4(group=64)\" or a number of bits from 2 to 8"
        ),
    };
    text.parse().map_err(|error| Error::Invalid(format!("qconfig `{key}`: {error}")))
}

fn no_such_layer(graph: &Graph, key: &str, wanted: &str) -> Error {
    let layers = || graph.weights.iter().filter(|weight| weight.role != Role::Vector).map(Weight::layer);
    let near = closest_names(wanted, layers(), 3);
    let kind = match wanted.contains('*') {
        true => "pattern matches none of the block linears (head and embeddings want their exact name)",
        false => "name is none",
    };
    Error::Invalid(format!(
        "qconfig `{key}`: this {kind} of the {} layers of the model; near names: {}",
        layers().count(),
        near.join(", ")
    ))
}

/// Whether `name` matches `pattern`, in which every `*` stands for any run of characters.
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    // `split` yields at least one piece, also for an empty pattern.
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        // Taking the first occurrence leaves the longest rest, so it never rules out a match.
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.weight("model.embed_tokens.weight", 10, 4, Role::Embedding, false);
        graph.weight("model.layers.0.mlp.up_proj.weight", 8, 4, Role::Linear, false);
        graph.weight("model.layers.1.mlp.up_proj.weight", 8, 4, Role::Linear, false);
        graph.weight("model.norm.weight", 1, 4, Role::Vector, false);
        graph.weight("lm_head.weight", 10, 4, Role::Head, false);
        graph
    }

    const NATIVE: [Format; 5] = [Format::F16, Format::F16, Format::F16, Format::F32, Format::Bf16];

    fn spec(text: &str) -> Spec {
        text.parse().unwrap()
    }

    fn read(config: Value) -> Result<Assignment> {
        Assignment::from_qconfig(&graph(), &NATIVE, &config)
    }

    #[test]
    fn uniform_touches_linears_only() {
        let got = Assignment::uniform(&graph(), &NATIVE, spec("int4@int8")).specs;
        assert_eq!(got, ["f16", "int4@int8", "int4@int8", "f32", "bf16"].map(spec));
    }

    #[test]
    fn later_entries_win_and_unnamed_layers_stay() {
        let got = read(json!({"*up_proj": "int3(group=32)", "model.layers.1.mlp.up_proj": 4})).unwrap();
        assert_eq!(got.specs, ["f16", "int3(group=32)", "qlinear(bits=4)", "f32", "bf16"].map(spec));
        assert_eq!(read(got.to_qconfig(&graph())).unwrap(), got);
        assert_eq!(got.mix(&graph())[1], (spec("int3(group=32)"), 1, 32));
    }

    #[test]
    fn exact_names_win_over_patterns_wherever_they_stand() {
        let got = read(json!({"model.layers.1.mlp.up_proj": 4, "*": "int8", "*0.mlp*": "int5"})).unwrap();
        assert_eq!(got.specs[1..3], ["int5", "qlinear(bits=4)"].map(spec));
    }

    #[test]
    fn patterns_mean_block_linears_as_the_format_option_does() {
        assert_eq!(
            read(json!({"*": 8})).unwrap(),
            Assignment::uniform(&graph(), &NATIVE, spec("qlinear(bits=8)"))
        );
        assert!(read(json!({"*embed*": "int8"})).unwrap_err().to_string().contains("exact name"));
        assert_eq!(read(json!({"lm_head": "int8"})).unwrap().specs[4], spec("int8"));
        assert_eq!(read(json!({"model.embed_tokens": "int8"})).unwrap().specs[0], spec("int8"));
        assert!(read(json!({"model.embed_tokens": 8})).unwrap_err().to_string().contains("activations"));
    }

    #[test]
    fn unknown_names_list_near_ones_and_vectors_do_not_match() {
        let message = read(json!({"model.layers.0.mlp.up_porj": 4})).unwrap_err().to_string();
        assert!(message.contains("near names: model.layers.0.mlp.up_proj"), "{message}");
        assert!(read(json!({"model.norm": "f16"})).is_err());
        assert!(read(json!({"*.down_proj": "f16"})).is_err());
    }

    #[test]
    fn wrong_values_name_their_key() {
        for value in [json!(9), json!(1), json!(4.5), json!("int99"), json!(null), json!(["int4"]), json!(-4)]
        {
            let message = read(json!({"lm_head": value})).unwrap_err().to_string();
            assert!(message.contains("`lm_head`"), "{message}");
        }
        assert!(read(json!([])).is_err());
    }

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("", "", true),
            ("*", "anything", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("*b*b*", "abcb", true),
            ("*.1.*.up", "m.1.x.up", true),
            ("*.1.*.up", "m.11.x.up", false),
            ("**x", "x", true),
            ("ü*r", "über", true),
            ("*ü", "u", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), want, "{pattern} on {name}");
        }
    }
}
