//! Byte-level BPE (GPT-2 and its successors): bytes as visible characters, merged within the words of a regular
//! expression.

use super::document::{Added, Document, Token, template, vocabulary};
use serde_json::{Value, json};

/// How text is split into words before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// Contractions, letters, numbers, other characters; a space belongs to the word that follows.
    Gpt2,
    /// As `Gpt2`, every digit by itself.
    Smollm,
    /// Numbers of up to three digits; line ends belong to what is before them.
    Llama3,
    /// As `Llama3`, every digit by itself.
    Qwen2,
    /// As `Qwen2`, words also end where the case changes.
    Tekken,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Split {
    pub(crate) const ALL: [Self; 5] = [Self::Gpt2, Self::Smollm, Self::Llama3, Self::Qwen2, Self::Tekken];

    /// Names in GGUF's `tokenizer.ggml.pre`, the usual one first.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &["gpt-2", "default"],
            Self::Smollm => &["smollm"],
            Self::Llama3 => &["llama-bpe", "llama3", "llama-v3"],
            Self::Qwen2 => &["qwen2", "deepseek-r1-qwen"],
            Self::Tekken => &["tekken"],
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.names().contains(&name))
    }

    /// Whether a word that is a token is taken as it is, without merging.
    pub(crate) fn ignores_merges(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    fn pre_tokenizer(self, prefix_space: bool) -> Value {
        let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": regex});
        let split = |regex: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
                byte_level(false),
            ]})
        };
        match self {
            Self::Gpt2 => byte_level(true),
            Self::Smollm => json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true}, byte_level(true),
            ]}),
            Self::Llama3 => split(LLAMA3),
            Self::Qwen2 => split(QWEN2),
            Self::Tekken => split(TEKKEN),
        }
    }

    /// The split that the pre-tokenizer of a `tokenizer.json` makes, if it is one of these.
    pub(crate) fn of(pre_tokenizer: &Value) -> Option<Self> {
        let mut wanted = pre_tokenizer.clone();
        strip(&mut wanted);
        Self::ALL.into_iter().find(|split| {
            let mut own = split.pre_tokenizer(false);
            strip(&mut own);
            own == wanted
        })
    }
}

/// Removes what does not change ids.
fn strip(pre_tokenizer: &mut Value) {
    if let Value::Object(map) = pre_tokenizer {
        for key in ["trim_offsets", "invert"] {
            map.remove(key);
        }
        if let Some(Value::Array(list)) = map.get_mut("pretokenizers") {
            list.iter_mut().for_each(strip);
        }
    }
}

/// A byte-level BPE tokenizer.
pub(crate) struct ByteLevel {
    pub(crate) tokens: Vec<Token>,
    /// Pairs in the order of their rank.
    pub(crate) merges: Vec<(String, String)>,
    pub(crate) added: Vec<Added>,
    pub(crate) split: Split,
    pub(crate) prefix_space: bool,
    /// Put before every text.
    pub(crate) begin: Option<Token>,
    /// Put behind every text.
    pub(crate) end: Option<Token>,
}

impl ByteLevel {
    /// The text of its `tokenizer.json`.
    pub(crate) fn text(self) -> String {
        let merges: Vec<Value> = self.merges.iter().map(|(a, b)| json!([a, b])).collect();
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": self.split.ignores_merges(), "vocab": vocabulary(&self.tokens), "merges": merges,
        });
        let normalizer = if self.split == Split::Qwen2 { json!({"type": "NFC"}) } else { Value::Null };
        Document {
            added: self.added,
            normalizer,
            pre_tokenizer: self.split.pre_tokenizer(self.prefix_space),
            post_processor: template(self.begin.as_ref(), self.end.as_ref()),
            decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
            model,
        }
        .text()
    }
}
