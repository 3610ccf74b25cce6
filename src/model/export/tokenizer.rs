//! A `tokenizer.json` as the metadata of a GGUF file.

use super::writer::{Entry, Item};
use crate::error::{Error, Result, invalid};
use crate::model::tokenizer::byte_level::Split;
use crate::model::tokenizer::sentencepiece::Kind;
use serde_json::Value;
use std::collections::HashMap;

/// The entries of the tokenizer in `text`, for a model of `vocabulary` ids.
///
/// # Errors
/// When GGUF has no tokenizer that gives the same ids.
pub(super) fn entries(text: &str, vocabulary: usize, begin: Option<u32>, ends: &[u32]) -> Result<Vec<Entry>> {
    let json: Value = serde_json::from_str(text)
        .map_err(|error| Error::Invalid(format!("the tokenizer is not valid JSON: {error}")))?;
    let model = &json["model"];
    let tokens = Tokens::read(&json, vocabulary)?;
    let byte_fallback = model["byte_fallback"] == Value::Bool(true);
    let mut entries = match model["type"].as_str() {
        Some("BPE") if byte_fallback => sentencepiece(&json, &tokens)?,
        Some("BPE") => byte_level(&json, &tokens)?,
        Some("WordPiece") => wordpiece(&json, &tokens)?,
        kind => invalid!(
            "the tokenizer is a {}, which GGUF does not have; exported are byte-level BPE, SentencePiece BPE and WordPiece",
            kind.unwrap_or("model of no type")
        ),
    };
    if model["type"] != "WordPiece" {
        let template = &json["post_processor"];
        let around = |id: Option<u32>, last: bool| id.filter(|&id| puts(template, id, last));
        let end = ends.iter().copied().find(|&id| puts(template, id, true));
        let begins = begin_of(template).or(begin);
        entries.extend(begins.map(|id| Entry::new("tokenizer.ggml.bos_token_id", Item::U32(id))));
        let flag = |name: &str, value: bool| Entry::new(name, Item::Bool(value));
        entries.push(flag("tokenizer.ggml.add_bos_token", around(begins, false).is_some()));
        entries.push(flag("tokenizer.ggml.add_eos_token", end.is_some()));
        entries.extend(
            end.or(ends.first().copied()).map(|id| Entry::new("tokenizer.ggml.eos_token_id", Item::U32(id))),
        );
        let others = ends.iter().copied().filter(|id| Some(*id) != end.or(ends.first().copied()));
        entries.extend(others.take(1).map(|id| Entry::new("tokenizer.ggml.eot_token_id", Item::U32(id))));
    }
    Ok(entries)
}

/// The template processor in a post-processor, which may be one of a sequence.
fn templates(post: &Value) -> Vec<&Value> {
    let list = post["processors"].as_array().map_or(vec![post], |list| list.iter().collect());
    list.into_iter().filter(|post| post["type"] == "TemplateProcessing").collect()
}

/// Whether a special token with this id stands before (or `last`, behind) a text.
fn puts(post: &Value, id: u32, last: bool) -> bool {
    templates(post).into_iter().any(|template| {
        let Some(single) = template["single"].as_array() else { return false };
        let piece = if last { single.last() } else { single.first() };
        let name = piece.and_then(|piece| piece["SpecialToken"]["id"].as_str()).unwrap_or_default();
        template["special_tokens"][name]["ids"] == serde_json::json!([id])
    })
}

/// The id of the token that is put before a text.
fn begin_of(post: &Value) -> Option<u32> {
    templates(post).into_iter().find_map(|template| {
        let name = template["single"][0]["SpecialToken"]["id"].as_str()?;
        u32::try_from(template["special_tokens"][name]["ids"][0].as_u64()?).ok()
    })
}

/// Texts and kinds of all ids.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<Kind>,
}

impl Tokens {
    fn read(json: &Value, vocabulary: usize) -> Result<Self> {
        let mut by_id: HashMap<usize, (String, Kind)> = HashMap::new();
        let id_of = |value: &Value, text: &str| match value.as_u64().filter(|&id| id < vocabulary as u64) {
            Some(id) => Ok(id as usize),
            None => invalid!("the tokenizer gives `{text}` the id {value}; the model knows {vocabulary} ids"),
        };
        for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
            by_id.insert(id_of(id, text)?, (text.clone(), Kind::Normal));
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let text = added["content"].as_str().unwrap_or_default();
            let kind = if added["special"] == Value::Bool(true) { Kind::Control } else { Kind::UserDefined };
            by_id.insert(id_of(&added["id"], text)?, (text.to_owned(), kind));
        }
        let count = vocabulary.min(1 << 24);
        let mut all: Vec<(String, Kind)> = Vec::with_capacity(count);
        for id in 0..count {
            all.push(by_id.remove(&id).unwrap_or_else(|| (format!("[PAD{id}]"), Kind::Unused)));
        }
        let (texts, kinds) = all.into_iter().unzip();
        Ok(Self { texts, kinds })
    }

    fn entries(&self, model: &str, texts: Vec<String>) -> Vec<Entry> {
        let kinds = self.kinds.iter().map(|kind| *kind as i32).collect();
        vec![
            Entry::new("tokenizer.ggml.model", Item::Text(model.to_owned())),
            Entry::new("tokenizer.ggml.tokens", Item::Texts(texts)),
            Entry::new("tokenizer.ggml.token_type", Item::I32s(kinds)),
        ]
    }

    fn id(&self, text: &Value) -> Option<u32> {
        let text = text.as_str()?;
        self.texts.iter().position(|own| own == text).map(|id| id as u32)
    }
}

/// Pairs of the merges, in either of the two ways of writing them.
fn merges(json: &Value) -> Vec<(String, String)> {
    let pair = |merge: &Value| match merge {
        Value::String(text) => text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        _ => Some((merge[0].as_str()?.to_owned(), merge[1].as_str()?.to_owned())),
    };
    json["model"]["merges"].as_array().into_iter().flatten().filter_map(pair).collect()
}

fn byte_level(json: &Value, tokens: &Tokens) -> Result<Vec<Entry>> {
    let Some(split) = Split::of(&json["pre_tokenizer"]) else {
        invalid!(
            "the tokenizer splits words in a way that has no name in GGUF here ({}); known are those of GPT-2, SmolLM, \
             Llama 3, Qwen2 and Tekken",
            json["pre_tokenizer"]
        );
    };
    let mut entries = tokens.entries("gpt2", tokens.texts.clone());
    entries.push(Entry::new("tokenizer.ggml.pre", Item::Text(split.names()[0].to_owned())));
    let merges = merges(json).into_iter().map(|(a, b)| format!("{a} {b}")).collect();
    entries.push(Entry::new("tokenizer.ggml.merges", Item::Texts(merges)));
    Ok(entries)
}

/// Scores take the place of ranks: minus the rank of the first merge that makes a piece.
fn sentencepiece(json: &Value, tokens: &Tokens) -> Result<Vec<Entry>> {
    if !json["pre_tokenizer"].is_null() && json["pre_tokenizer"]["type"] != "Metaspace" {
        invalid!("the tokenizer splits words before merging, which GGUF's SentencePiece does not");
    }
    let merges = merges(json);
    let mut rank: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (index, (a, b)) in merges.iter().enumerate() {
        rank.entry(format!("{a}{b}")).or_insert(index);
    }
    let unknown = tokens.id(&json["model"]["unk_token"]);
    let is_byte = |text: &str| text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
    let mut kinds = tokens.kinds.clone();
    for (kind, text) in kinds.iter_mut().zip(&tokens.texts) {
        if *kind == Kind::Normal && is_byte(text) {
            *kind = Kind::Byte;
        }
    }
    if let Some(kind) = unknown.and_then(|id| kinds.get_mut(id as usize)) {
        *kind = Kind::Unknown;
    }
    let score = |(text, kind): (&String, &Kind)| match kind {
        Kind::Normal => -(rank.get(text).copied().unwrap_or(merges.len()) as f32),
        _ => 0.0,
    };
    let scores = tokens.texts.iter().zip(&kinds).map(score).collect();
    let normalizer = json["normalizer"].to_string();
    let prefix = normalizer.contains("\"Prepend\"") || json["pre_tokenizer"]["prepend_scheme"] == "first";
    let own = Tokens { texts: Vec::new(), kinds };
    let mut entries = own.entries("llama", tokens.texts.clone());
    entries.push(Entry::new("tokenizer.ggml.pre", Item::Text("default".to_owned())));
    entries.push(Entry::new("tokenizer.ggml.scores", Item::F32s(scores)));
    entries.push(Entry::new("tokenizer.ggml.add_space_prefix", Item::Bool(prefix)));
    entries.extend(unknown.map(|id| Entry::new("tokenizer.ggml.unknown_token_id", Item::U32(id))));
    Ok(entries)
}

fn wordpiece(json: &Value, tokens: &Tokens) -> Result<Vec<Entry>> {
    let normalizer = &json["normalizer"];
    if normalizer["lowercase"] == Value::Bool(false) {
        invalid!(
            "the tokenizer keeps case, which readers of GGUF do not; only uncased WordPiece can be exported"
        );
    }
    let marked = |text: &String| match text.strip_prefix("##") {
        _ if text.starts_with('[') && text.ends_with(']') => text.clone(),
        Some(text) => text.to_owned(),
        None => format!("▁{text}"),
    };
    let mut entries = tokens.entries("bert", tokens.texts.iter().map(marked).collect());
    entries.push(Entry::new("tokenizer.ggml.token_type_count", Item::U32(2)));
    // Readers take the first token from `bos`, and the misspelt key is the one in use.
    let named = [
        ("bos", "[CLS]"),
        ("cls", "[CLS]"),
        ("eos", "[SEP]"),
        ("seperator", "[SEP]"),
        ("unknown", "[UNK]"),
        ("padding", "[PAD]"),
        ("mask", "[MASK]"),
    ];
    for (key, text) in named {
        let id = tokens.id(&Value::from(text));
        entries.extend(id.map(|id| Entry::new(&format!("tokenizer.ggml.{key}_token_id"), Item::U32(id))));
    }
    Ok(entries)
}
