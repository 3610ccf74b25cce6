//! The tokenizer in the metadata of a GGUF file, as the text of a `tokenizer.json`.

use super::meta::Meta;
use crate::error::{Result, invalid};
use crate::model::checkpoint::gguf::header::Value;
use crate::model::tokenizer::byte_level::{ByteLevel, Split};
use crate::model::tokenizer::document::{Added, Token};
use crate::model::tokenizer::sentencepiece::{Kind, Piece, SentencePiece};
use crate::model::tokenizer::wordpiece::WordPiece;
use std::collections::HashMap;

const KEY: &str = "tokenizer.ggml";

/// `None` where the file says that it has none.
///
/// # Errors
/// When the entries are damaged, or describe a tokenizer that is not supported.
pub(super) fn text(meta: &Meta<'_>) -> Result<Option<String>> {
    let label = meta.label();
    let text = match meta.text(&format!("{KEY}.model"))? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("llama") => sentencepiece(meta)?,
        Some("gpt2") => byte_level(meta)?,
        Some("bert") => wordpiece(meta)?,
        Some(other) => invalid!(
            "{label}: `{KEY}.model` is {other:?}; supported are llama (SentencePiece), gpt2 (byte-level BPE) and bert \
             (WordPiece)"
        ),
    };
    Ok(Some(text))
}

/// The texts of special tokens as `tokenizer_config.json` names them; chat templates ask for them.
pub(super) fn special_texts(meta: &Meta<'_>) -> Result<String> {
    let texts = meta.texts(&format!("{KEY}.tokens"))?.unwrap_or_default();
    let mut special = serde_json::Map::new();
    for (key, name) in [
        ("bos", "bos"),
        ("eos", "eos"),
        ("unknown", "unk"),
        ("padding", "pad"),
        ("seperator", "sep"),
        ("cls", "cls"),
        ("mask", "mask"),
    ] {
        let id = meta.token(&format!("{KEY}.{key}_token_id"))?;
        if let Some(text) = id.and_then(|id| texts.get(id as usize)) {
            special.insert(format!("{name}_token"), (*text).into());
        }
    }
    Ok(serde_json::Value::Object(special).to_string())
}

/// Texts and kinds of all tokens.
fn pieces<'a>(meta: &Meta<'a>) -> Result<Vec<(&'a str, Kind)>> {
    let label = meta.label();
    let Some(tokens) = meta.texts(&format!("{KEY}.tokens"))? else {
        invalid!("{label}: `{KEY}.tokens` is missing; want the list of tokens");
    };
    let kinds = match meta.list(&format!("{KEY}.token_type"))? {
        None => vec![Kind::Normal; tokens.len()],
        Some(list) => {
            let kind = |value: &Value| match value {
                Value::Signed(number) => u64::try_from(*number).ok().and_then(Kind::from_number),
                Value::Unsigned(number) => Kind::from_number(*number),
                _ => None,
            };
            let kinds: Option<Vec<Kind>> = list.iter().map(kind).collect();
            match kinds.filter(|kinds| kinds.len() == tokens.len()) {
                Some(kinds) => kinds,
                None => invalid!(
                    "{label}: `{KEY}.token_type` has {} items; want one from 1 to 6 for each of the {} tokens",
                    list.len(),
                    tokens.len()
                ),
            }
        }
    };
    Ok(tokens.into_iter().zip(kinds).collect())
}

/// The token `which` (`bos`, `eos`) if the flag that puts it around texts is set.
fn marker(meta: &Meta<'_>, which: &str, default: bool) -> Result<Option<u32>> {
    let id = meta.token(&format!("{KEY}.{which}_token_id"))?;
    match meta.flag(&format!("{KEY}.add_{which}_token"))?.unwrap_or(default) {
        true => Ok(id),
        false => Ok(None),
    }
}

fn sentencepiece(meta: &Meta<'_>) -> Result<String> {
    let label = meta.label();
    let pieces = pieces(meta)?;
    let Some(scores) = meta.list(&format!("{KEY}.scores"))?.filter(|list| list.len() == pieces.len()) else {
        invalid!("{label}: `{KEY}.scores` wants one score for each of the {} tokens", pieces.len());
    };
    let pieces = pieces.into_iter().zip(scores).map(|((text, kind), score)| match score {
        Value::Float(score) => Ok(Piece { text: text.to_owned(), score: *score as f32, kind }),
        other => invalid!("{label}: `{KEY}.scores` holds {other}; want numbers"),
    });
    let pieces = pieces.collect::<Result<_>>()?;
    let prefix_space = meta.flag(&format!("{KEY}.add_space_prefix"))?.unwrap_or(true);
    let (begin, end) = (marker(meta, "bos", true)?, marker(meta, "eos", false)?);
    SentencePiece { pieces, prefix_space, begin, end }.text(label)
}

/// Tokens with ids, and those that are looked for before all else.
fn tokens(meta: &Meta<'_>) -> Result<(Vec<Token>, Vec<Added>)> {
    let pieces = pieces(meta)?;
    let mut ids: HashMap<&str, usize> = HashMap::with_capacity(pieces.len());
    for (id, (text, _)) in pieces.iter().enumerate() {
        if let Some(first) = ids.insert(text, id) {
            invalid!("{}: tokens {first} and {id} are both `{text}`; want different ones", meta.label());
        }
    }
    let added = pieces.iter().enumerate().filter_map(|(id, (text, kind))| match kind {
        Kind::Control | Kind::Unknown => Some(Added::new(id as u32, text, true)),
        Kind::UserDefined => Some(Added::new(id as u32, text, false)),
        _ => None,
    });
    let added = added.collect();
    Ok((pieces.iter().enumerate().map(|(id, (text, _))| ((*text).to_owned(), id as u32)).collect(), added))
}

fn token(tokens: &[Token], id: Option<u32>, label: &str) -> Result<Option<Token>> {
    match id.map(|id| (id, tokens.get(id as usize))) {
        None => Ok(None),
        Some((_, Some(token))) => Ok(Some(token.clone())),
        Some((id, None)) => {
            invalid!("{label}: the special token {id} is beyond the {} tokens of the tokenizer", tokens.len())
        }
    }
}

fn byte_level(meta: &Meta<'_>) -> Result<String> {
    let label = meta.label();
    let pre = meta.text(&format!("{KEY}.pre"))?.unwrap_or("default");
    let Some(split) = Split::from_name(pre) else {
        let names: Vec<&str> = Split::ALL.iter().flat_map(|split| split.names()).copied().collect();
        invalid!(
            "{label}: `{KEY}.pre` is {pre:?}, a way to split words that is not supported; supported are {}",
            names.join(", ")
        );
    };
    let (tokens, added) = tokens(meta)?;
    let Some(lines) = meta.texts(&format!("{KEY}.merges"))? else {
        invalid!("{label}: `{KEY}.merges` is missing; want the list of merges");
    };
    let mut merges = Vec::with_capacity(lines.len());
    for line in lines {
        match line.split_once(' ') {
            Some((a, b)) if !a.is_empty() && !b.is_empty() => merges.push((a.to_owned(), b.to_owned())),
            _ => invalid!("{label}: `{KEY}.merges` holds {line:?}; want two tokens with a space between"),
        }
    }
    let begin = token(&tokens, marker(meta, "bos", split == Split::Llama3)?, label)?;
    let end = token(&tokens, marker(meta, "eos", false)?, label)?;
    let prefix_space = meta.flag(&format!("{KEY}.add_space_prefix"))?.unwrap_or(false);
    Ok(ByteLevel { tokens, merges, added, split, prefix_space, begin, end }.text())
}

/// GGUF marks pieces that begin a word with `▁`; BERT marks those that do not with `##`.
fn wordpiece(meta: &Meta<'_>) -> Result<String> {
    let label = meta.label();
    let (mut tokens, mut added) = tokens(meta)?;
    let id = |which: &str| meta.token(&format!("{KEY}.{which}_token_id"));
    for (text, _) in &mut tokens {
        *text = match text.strip_prefix('▁') {
            Some(text) => text.to_owned(),
            None if text.starts_with('[') && text.ends_with(']') => continue,
            None => format!("##{text}"),
        };
    }
    let (cls, bos) = (id("cls")?, id("bos")?);
    let (sep, old_sep, eos) = (id("separator")?, id("seperator")?, id("eos")?);
    let named = |id: Option<u32>, name: &str| {
        id.or_else(|| tokens.iter().find(|(text, _)| text == name).map(|(_, id)| *id))
    };
    let begin = token(&tokens, named(cls.or(bos), "[CLS]"), label)?;
    let end = token(&tokens, named(sep.or(old_sep).or(eos), "[SEP]"), label)?;
    let unknown = token(&tokens, named(id("unknown")?, "[UNK]"), label)?;
    let (Some(begin), Some(end), Some(unknown)) = (begin, end, unknown) else {
        invalid!("{label}: the tokenizer lacks one of [CLS], [SEP] and [UNK], which BERT needs");
    };
    // Files in use mark special tokens by their brackets only.
    for (text, id) in &tokens {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].contains(&text.as_str());
        if special && !added.iter().any(|token| token.id == *id) {
            added.push(Added::new(*id, text, true));
        }
    }
    for token in &mut added {
        token.content.clone_from(&tokens[token.id as usize].0);
    }
    added.sort_by_key(|token| token.id);
    // The format does not say whether text is lowercased; its users always do it, and so does nearly every BERT.
    let lowercase = meta.flag(&format!("{KEY}.normalizer.lowercase"))?.unwrap_or(true);
    let unknown = unknown.0;
    Ok(WordPiece { tokens, added, unknown, begin, end, lowercase, strip_accents: None, split_chinese: true }
        .text())
}
