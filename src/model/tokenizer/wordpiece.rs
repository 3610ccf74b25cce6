//! WordPiece as BERT uses it: words at spaces and punctuation, then the longest pieces from the left.

use super::document::{Added, Document, Token, template, vocabulary};
use serde_json::json;

/// A WordPiece tokenizer; pieces that continue a word begin with `##`.
pub(crate) struct WordPiece {
    pub(crate) tokens: Vec<Token>,
    pub(crate) added: Vec<Added>,
    pub(crate) unknown: String,
    /// Before a text, `[CLS]`.
    pub(crate) begin: Token,
    /// Behind a text, `[SEP]`.
    pub(crate) end: Token,
    pub(crate) lowercase: bool,
    /// `None`: where it lowercases.
    pub(crate) strip_accents: Option<bool>,
    /// Whether every CJK character is a word.
    pub(crate) split_chinese: bool,
}

impl WordPiece {
    /// The text of its `tokenizer.json`.
    pub(crate) fn text(self) -> String {
        Document {
            added: self.added,
            normalizer: json!({
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": self.split_chinese,
                "strip_accents": self.strip_accents, "lowercase": self.lowercase,
            }),
            pre_tokenizer: json!({"type": "BertPreTokenizer"}),
            post_processor: template(Some(&self.begin), Some(&self.end)),
            decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            model: json!({
                "type": "WordPiece", "unk_token": self.unknown, "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary(&self.tokens),
            }),
        }
        .text()
    }
}
