//! Parts of a `tokenizer.json` that all conversions share.

use serde_json::{Map, Value, json};

/// A token that is looked for in the text before anything else is done with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Added {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Left out of decoded text.
    pub(crate) special: bool,
    /// Looked for after the normalizer.
    pub(crate) normalized: bool,
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    pub(crate) single_word: bool,
}

impl Added {
    pub(crate) fn new(id: u32, content: &str, special: bool) -> Self {
        let content = content.to_owned();
        Self { id, content, special, normalized: false, lstrip: false, rstrip: false, single_word: false }
    }

    fn json(&self) -> Value {
        let Self { id, content, special, normalized, lstrip, rstrip, single_word } = self;
        json!({"id": id, "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
               "normalized": normalized, "special": special})
    }
}

/// A token with its id.
pub(crate) type Token = (String, u32);

/// What a tokenizer does, in the words of `tokenizer.json`.
pub(crate) struct Document {
    pub(crate) added: Vec<Added>,
    pub(crate) normalizer: Value,
    pub(crate) pre_tokenizer: Value,
    pub(crate) post_processor: Value,
    pub(crate) decoder: Value,
    pub(crate) model: Value,
}

impl Document {
    pub(crate) fn text(self) -> String {
        let added: Vec<Value> = self.added.iter().map(Added::json).collect();
        let document = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": self.normalizer, "pre_tokenizer": self.pre_tokenizer,
            "post_processor": self.post_processor, "decoder": self.decoder, "model": self.model,
        });
        document.to_string()
    }
}

/// A vocabulary as JSON, in the order of the ids.
pub(crate) fn vocabulary(tokens: &[Token]) -> Value {
    let mut tokens: Vec<&Token> = tokens.iter().collect();
    tokens.sort_by_key(|(_, id)| *id);
    let entries = tokens.into_iter().map(|(token, id)| (token.clone(), Value::from(*id)));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// A post-processor that puts `before` in front of a text and `after` behind it; null for neither. The second text
/// of a pair is segment 1 where there is an end token only (as for BERT).
pub(crate) fn template(before: Option<&Token>, after: Option<&Token>) -> Value {
    if before.is_none() && after.is_none() {
        return Value::Null;
    }
    let special = |token: &Token, segment: u32| json!({"SpecialToken": {"id": token.0, "type_id": segment}});
    let text = |name: &str, segment: u32| json!({"Sequence": {"id": name, "type_id": segment}});
    let around = |name: &str, segment: u32, begin: bool| -> Vec<Value> {
        let before = before.filter(|_| begin).map(|token| special(token, segment));
        let after = after.map(|token| special(token, segment));
        before.into_iter().chain([text(name, segment)]).chain(after).collect()
    };
    let single = around("A", 0, true);
    let mut pair = single.clone();
    // BERT begins a pair once; those that only mark beginnings mark both.
    pair.extend(around("B", 1, after.is_none()));
    let tokens = before
        .into_iter()
        .chain(after)
        .map(|(token, id)| (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]})));
    let tokens: Map<String, Value> = tokens.collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}
