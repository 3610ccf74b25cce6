//! What a model is measured on: sequences of tokens, and what is to be predicted at some of their positions.

/// A sequence and what is expected of it: a window of a text, or a labelled sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids, at most the context long.
    pub inputs: Vec<u32>,
    /// Segment of each token (BERT's token types); empty where all are 0.
    pub segments: Vec<u32>,
    /// Positions whose row of logits is wanted, ascending.
    pub outputs: Vec<u32>,
    /// The token or class expected at each of them.
    pub targets: Vec<u32>,
}

impl Example {
    /// A stretch of text in which every position predicts: `targets[i]` is the token that follows `inputs[i]`.
    pub fn window(inputs: Vec<u32>, targets: Vec<u32>) -> Self {
        let outputs = (0..targets.len() as u32).collect();
        Self { inputs, segments: Vec::new(), outputs, targets }
    }

    /// A text of class `class`, which the model tells at its first position.
    pub fn classified(text: TextTokens, class: u32) -> Self {
        Self { inputs: text.ids, segments: text.segments, outputs: vec![0], targets: vec![class] }
    }

    /// Segment of the token at `position`.
    pub fn segment(&self, position: usize) -> u32 {
        self.segments.get(position).copied().unwrap_or(0)
    }

    /// Identifies examples: a hash (BLAKE3) of their tokens and of what they expect, in hexadecimal digits.
    pub fn content_hash(examples: &[Self]) -> String {
        let mut hasher = blake3::Hasher::new();
        for example in examples {
            hasher.update(&(example.inputs.len() as u64).to_le_bytes());
            hasher.update(bytemuck::cast_slice(&example.inputs));
            hasher.update(bytemuck::cast_slice(&example.targets));
            // Windows say no more: studies of texts keep the hash they were begun with.
            if example.outputs.len() != example.inputs.len() || !example.segments.is_empty() {
                for field in [&example.targets, &example.outputs, &example.segments] {
                    hasher.update(&(field.len() as u64).to_le_bytes());
                    hasher.update(bytemuck::cast_slice(field));
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// A text, or a pair of them, as an encoder reads it: with its special tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTokens {
    /// Token ids, at most the context long.
    pub ids: Vec<u32>,
    /// Segment of each: 1 for the second text of a pair.
    pub segments: Vec<u32>,
    /// Tokens of the text that were cut off because it is longer than the context.
    pub cut: usize,
}

/// What one prediction is about, for units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// The next token of a text.
    Token,
    /// The class of an example.
    Example,
}

impl Unit {
    /// `token` or `example`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Example => "example",
        }
    }
}
