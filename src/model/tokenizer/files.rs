//! Tokenizers of folders that have no `tokenizer.json`, as the text of one.
//!
//! Looked for in this order: `vocab.json` with `merges.txt` (byte-level BPE of GPT-2 and Qwen2), `vocab.txt` (WordPiece
//! of BERT), `tokenizer.model` (SentencePiece, BPE only), and beside llama2.c's checkpoints `tokenizer.bin` or
//! `tok*.bin`. `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` are read where they are.

use super::byte_level::{ByteLevel, Split};
use super::document::{Added, Token};
use super::piece_files;
use super::sentencepiece::{Kind, Piece, SentencePiece};
use super::wordpiece::WordPiece;
use crate::error::{Error, Result, invalid};
use crate::model::read_text;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The tokenizer of `folder` as the text of a `tokenizer.json`, and the file it is from; `None` where there is none.
///
/// # Errors
/// When the files are damaged, or are those of a tokenizer that is not supported.
pub(crate) fn of_folder(folder: &Path) -> Result<Option<(String, PathBuf)>> {
    let at = |name: &str| folder.join(name);
    if let Some(text) = read_text(&at("tokenizer.json"))? {
        return Ok(Some((text, at("tokenizer.json"))));
    }
    let found = if at("vocab.json").exists() {
        if !at("merges.txt").exists() {
            invalid!("{} is there but no merges.txt, which belongs to it", at("vocab.json").display());
        }
        (byte_level(folder)?, at("vocab.json"))
    } else if at("vocab.txt").exists() {
        (wordpiece(folder)?, at("vocab.txt"))
    } else if at("tokenizer.model").exists() {
        (sentencepiece(folder)?, at("tokenizer.model"))
    } else {
        return Ok(None);
    };
    Ok(Some(found))
}

/// The tokenizer that lies beside a llama2.c checkpoint: `tokenizer.json`, `tokenizer.bin` or the only `tok*.bin`.
///
/// # Errors
/// When the file is damaged.
pub(crate) fn beside_llama2c(checkpoint: &Path) -> Result<Option<(String, PathBuf)>> {
    let folder = match checkpoint.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Some(text) = read_text(&folder.join("tokenizer.json"))? {
        return Ok(Some((text, folder.join("tokenizer.json"))));
    }
    let mut path = folder.join("tokenizer.bin");
    if !path.exists() {
        let io = |source| Error::io("cannot read", folder, source);
        let mut found = Vec::new();
        for entry in folder.read_dir().map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let name = name.to_string_lossy();
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if name.strip_prefix("tok").and_then(|name| name.strip_suffix(".bin")).is_some_and(is_number) {
                found.push(folder.join(&*name));
            }
        }
        match &found[..] {
            [only] => path.clone_from(only),
            _ => return Ok(None),
        }
    }
    let bytes = std::fs::read(&path).map_err(|source| Error::io("cannot read", &path, source))?;
    let label = path.display().to_string();
    let pieces = piece_files::llama2c(&bytes, &label)?;
    let text = SentencePiece { pieces, prefix_space: true, begin: Some(1), end: None }.text(&label)?;
    Ok(Some((text, path)))
}

/// What the JSON files beside a vocabulary say.
struct Settings {
    config: Map<String, Value>,
    special: Map<String, Value>,
    added: Map<String, Value>,
    label: String,
}

/// Attributes that name special tokens, in the order in which new ones get their ids.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Settings {
    fn read(folder: &Path) -> Result<Self> {
        let object = |name: &str| -> Result<Map<String, Value>> {
            let path = folder.join(name);
            let Some(text) = read_text(&path)? else { return Ok(Map::new()) };
            object(&text, &path.display().to_string())
        };
        Ok(Self {
            config: object("tokenizer_config.json")?,
            special: object("special_tokens_map.json")?,
            added: object("added_tokens.json")?,
            label: folder.join("tokenizer_config.json").display().to_string(),
        })
    }

    /// Refuses classes other than `names`, with or without `Fast`.
    fn require_class(&self, names: &[&str]) -> Result<()> {
        let class = self.config.get("tokenizer_class").and_then(Value::as_str);
        let plain = class.map(|class| class.strip_suffix("Fast").unwrap_or(class));
        match plain {
            Some(plain) if plain != "PreTrainedTokenizer" && !names.contains(&plain) => {
                invalid!(
                    "{}: `tokenizer_class` is {plain}, which cannot be read from its vocabulary; convert it to a \
                     tokenizer.json with transformers' AutoTokenizer and save_pretrained (read are {})",
                    self.label,
                    names.join(", ")
                )
            }
            _ => Ok(()),
        }
    }

    fn flag(&self, key: &str, default: Option<bool>) -> Result<Option<bool>> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(value) => invalid!("{}: `{key}` is {value}; want true or false", self.label),
        }
    }

    /// The token that an attribute such as `bos_token` names.
    fn token(&self, attribute: &str) -> Option<&str> {
        let named = |map: &Map<String, Value>| map.get(attribute).is_some_and(|value| !value.is_null());
        let map = if named(&self.special) { &self.special } else { &self.config };
        content(map.get(attribute)?)
    }

    /// All tokens that are special: those of the attributes, then the list of others.
    fn special_tokens(&self) -> Vec<&str> {
        let mut tokens: Vec<&str> = SPECIAL.iter().filter_map(|name| self.token(name)).collect();
        for map in [&self.special, &self.config] {
            let list = map.get("additional_special_tokens").and_then(Value::as_array);
            tokens.extend(list.into_iter().flatten().filter_map(content));
        }
        tokens
    }

    /// Tokens to look for in texts, by id; they get ids behind the vocabulary where they have none.
    fn added(&self, tokens: &mut Vec<Token>, defaults: &[&str]) -> Result<Vec<Added>> {
        let mut ids: HashMap<String, u32> = tokens.iter().cloned().collect();
        let mut by_id: BTreeMap<u32, Added> = BTreeMap::new();
        let decoder = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, value) in decoder.into_iter().flatten() {
            let (Ok(number), Some(text)) = (id.parse::<u32>(), content(value)) else {
                invalid!("{}: `added_tokens_decoder` holds {id}: {value}; want ids and tokens", self.label);
            };
            let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
            let token = Added {
                id: number,
                content: text.to_owned(),
                special: flag("special"),
                normalized: flag("normalized"),
                lstrip: flag("lstrip"),
                rstrip: flag("rstrip"),
                single_word: flag("single_word"),
            };
            by_id.insert(number, token);
        }
        for (text, id) in &self.added {
            let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
                invalid!("{}: added_tokens.json gives `{text}` the id {id}; want a number", self.label);
            };
            by_id.entry(id).or_insert_with(|| Added::new(id, text, false));
        }
        ids.extend(by_id.values().map(|token| (token.content.clone(), token.id)));
        let special = self.special_tokens();
        let missing_are_fine = defaults.iter().copied().filter(|token| ids.contains_key(*token));
        let all: Vec<String> = special.iter().copied().chain(missing_are_fine).map(str::to_owned).collect();
        for text in all {
            let next = ids.values().copied().max().map_or(0, |id| id.saturating_add(1));
            let id = *ids.entry(text.clone()).or_insert(next);
            by_id.entry(id).or_insert_with(|| Added::new(id, &text, true)).special = true;
        }
        let texts: HashMap<u32, String> = tokens.iter().map(|(text, id)| (*id, text.clone())).collect();
        let known: HashMap<String, u32> = tokens.iter().cloned().collect();
        for token in by_id.values() {
            let text = texts.get(&token.id);
            let same_text = text.is_none_or(|text| *text == token.content);
            if !same_text || known.get(&token.content).is_some_and(|id| *id != token.id) {
                invalid!(
                    "{}: the added token `{}` has the id {}, which contradicts the vocabulary",
                    self.label,
                    token.content,
                    token.id
                );
            }
            if text.is_none() {
                tokens.push((token.content.clone(), token.id));
            }
        }
        Ok(by_id.into_values().collect())
    }
}

/// A token that is written as a string or as an object.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn object(text: &str, label: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => invalid!("{label}: want a JSON object"),
        Err(error) => invalid!("{label} is not valid JSON: {error}"),
    }
}

fn required_text(path: &Path) -> Result<String> {
    match read_text(path)? {
        Some(text) => Ok(text),
        None => invalid!("{} is missing", path.display()),
    }
}

fn byte_level(folder: &Path) -> Result<String> {
    let settings = Settings::read(folder)?;
    settings.require_class(&["GPT2Tokenizer", "Qwen2Tokenizer"])?;
    let class = settings.config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let is_qwen = class.starts_with("Qwen2");
    let path = folder.join("vocab.json");
    let label = path.display().to_string();
    let mut tokens: Vec<Token> = Vec::new();
    for (token, id) in object(&required_text(&path)?, &label)? {
        let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
            invalid!("{label}: token `{token}` has the id {id}; want a whole number");
        };
        tokens.push((token, id));
    }
    let path = folder.join("merges.txt");
    let mut merges = Vec::new();
    for (number, line) in required_text(&path)?.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with("#version") {
            continue;
        }
        match line.split(' ').collect::<Vec<_>>()[..] {
            [a, b] if !a.is_empty() && !b.is_empty() => merges.push((a.to_owned(), b.to_owned())),
            _ => {
                invalid!("{}: line {}: want two pieces with a space between", path.display(), number + 1)
            }
        }
    }
    let added = settings.added(&mut tokens, &["<|endoftext|>"])?;
    let begin = match settings.flag("add_bos_token", Some(false))? {
        Some(true) => {
            let token = settings.token("bos_token").unwrap_or("<|endoftext|>");
            Some(required(&tokens, token, &label)?)
        }
        _ => None,
    };
    let prefix_space = settings.flag("add_prefix_space", Some(false))? == Some(true);
    let split = if is_qwen { Split::Qwen2 } else { Split::Gpt2 };
    Ok(ByteLevel { tokens, merges, added, split, prefix_space, begin, end: None }.text())
}

fn wordpiece(folder: &Path) -> Result<String> {
    let settings = Settings::read(folder)?;
    settings.require_class(&["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"])?;
    if settings.flag("do_basic_tokenize", Some(true))? == Some(false) {
        invalid!("{}: `do_basic_tokenize` is false, which is not supported", settings.label);
    }
    if let Some(Value::Array(list)) = settings.config.get("never_split")
        && !list.is_empty()
    {
        invalid!("{}: `never_split` is not supported; want null", settings.label);
    }
    let path = folder.join("vocab.txt");
    let label = path.display().to_string();
    // Of equal lines the last one counts.
    let text = required_text(&path)?;
    let ids: HashMap<&str, u32> = text.lines().enumerate().map(|(id, line)| (line, id as u32)).collect();
    let mut tokens: Vec<Token> = ids.into_iter().map(|(token, id)| (token.to_owned(), id)).collect();
    let added = settings.added(&mut tokens, &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])?;
    let named = |attribute: &str, default: &str| {
        required(&tokens, settings.token(attribute).unwrap_or(default), &label)
    };
    let (unknown, begin, end) =
        (named("unk_token", "[UNK]")?.0, named("cls_token", "[CLS]")?, named("sep_token", "[SEP]")?);
    let lowercase = settings.flag("do_lower_case", Some(true))? == Some(true);
    let strip_accents = settings.flag("strip_accents", None)?;
    let split_chinese = settings.flag("tokenize_chinese_chars", Some(true))? == Some(true);
    Ok(WordPiece { tokens, added, unknown, begin, end, lowercase, strip_accents, split_chinese }.text())
}

fn sentencepiece(folder: &Path) -> Result<String> {
    let settings = Settings::read(folder)?;
    settings.require_class(&["LlamaTokenizer"])?;
    let path = folder.join("tokenizer.model");
    let label = path.display().to_string();
    let bytes = std::fs::read(&path).map_err(|source| Error::io("cannot read", &path, source))?;
    let model = piece_files::sentencepiece(&bytes, &label)?;
    let find = |token: &str| model.pieces.iter().position(|piece| piece.text == token).map(|id| id as u32);
    let marker = |flag: &str, default: bool, attribute: &str, token: &str| -> Result<Option<u32>> {
        match settings.flag(flag, Some(default))? {
            Some(true) => Ok(find(settings.token(attribute).unwrap_or(token))),
            _ => Ok(None),
        }
    };
    let begin = marker("add_bos_token", true, "bos_token", "<s>")?;
    let end = marker("add_eos_token", false, "eos_token", "</s>")?;
    let mut pieces = model.pieces;
    // Ids behind the pieces, without gaps.
    let mut tokens: Vec<Token> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), id as u32)).collect();
    for token in settings.added(&mut tokens, &[])? {
        let kind = if token.special { Kind::Control } else { Kind::UserDefined };
        let (next, id) = (pieces.len(), token.id as usize);
        match pieces.get_mut(id) {
            Some(piece) if piece.kind == Kind::Unknown => {}
            Some(piece) => piece.kind = kind,
            None if id == next => pieces.push(Piece { text: token.content, score: 0.0, kind }),
            None => invalid!("{label}: added token `{}` has the id {id}, which leaves a gap", token.content),
        }
    }
    SentencePiece { pieces, prefix_space: model.prefix_space, begin, end }.text(&label)
}

fn required(tokens: &[Token], token: &str, label: &str) -> Result<Token> {
    match tokens.iter().find(|(text, _)| text == token) {
        Some(found) => Ok(found.clone()),
        None => invalid!("{label}: the token `{token}` is missing, which this tokenizer needs"),
    }
}
