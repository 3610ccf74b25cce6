//! Text to token ids and back, with Hugging Face's `tokenizers`.
//!
//! Tokenizers that are not written as a `tokenizer.json` (GPT-2's two files, BERT's list of words, SentencePiece, GGUF)
//! are turned into the text of one, and from there on they are like any other.

pub(crate) mod byte_level;
pub(crate) mod document;
pub(crate) mod files;
mod piece_files;
pub(crate) mod sentencepiece;
pub(crate) mod wordpiece;

use super::checkpoint::reject_other_formats;
use super::example::TextTokens;
use crate::error::{Error, Result, invalid};
use std::path::Path;
use tokenizers::{PostProcessor as _, TruncationParams, truncate_encodings};

/// A tokenizer read from a `tokenizer.json`.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    label: String,
}

/// Ids before the first new one that [`TextStream`] decodes again: a decoder may treat the first token of a
/// text differently (SentencePiece drops its leading space).
const STREAM_CONTEXT: usize = 6;
/// Pending ids after which an incomplete character is given up. UTF-8 needs at most 4 bytes.
const MAX_PENDING: usize = 8;

impl Tokenizer {
    /// Parses the content of a `tokenizer.json`; `label` names it in errors.
    ///
    /// # Errors
    /// When the content is not a tokenizer.
    pub fn parse(json: &[u8], label: &str) -> Result<Self> {
        reject_other_formats(json, label)?;
        let wrong = |error| Error::Invalid(format!("{label} is not a tokenizer: {error}"));
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(wrong)?;
        // Truncation would silently drop text and padding would add ids that nobody wrote.
        inner.with_truncation(None).map_err(wrong)?;
        inner.with_padding(None);
        Ok(Self { inner, label: label.to_owned() })
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not a tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        let json = std::fs::read(path).map_err(|source| Error::io("cannot read", path, source))?;
        Self::parse(&json, &path.display().to_string())
    }

    /// The ids of `text`, without special tokens around it.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    /// The ids of `text` with the special tokens the tokenizer adds, e.g. a leading beginning-of-text.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    /// A text, or a pair of texts, with the special tokens and segments that the tokenizer gives them, in at most `most`
    /// tokens: of longer ones the end of the text is cut off (of a pair the end of the longer text, then of both),
    /// special tokens stay.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text, or `most` has no room for the special tokens.
    pub fn encode_text(&self, text: &str, pair: Option<&str>, most: usize) -> Result<TextTokens> {
        let failed = |error| Error::Invalid(format!("{}: cannot tokenize the text: {error}", self.label));
        let special = self.inner.get_post_processor().map_or(0, |p| p.added_tokens(pair.is_some()));
        if most < special {
            invalid!("a context of {most} tokens has no room for the {special} special tokens of a text");
        }
        let plain = |text: &str| self.inner.encode_fast(text, false).map_err(failed);
        let (first, second) = (plain(text)?, pair.map(plain).transpose()?);
        let whole = first.len() + second.as_ref().map_or(0, |second| second.len());
        let params = TruncationParams { max_length: most - special, ..TruncationParams::default() };
        let (first, second) = truncate_encodings(first, second, &params).map_err(failed)?;
        let kept = first.len() + second.as_ref().map_or(0, |second| second.len());
        let encoding = self.inner.post_process(first, second, true).map_err(failed)?;
        Ok(TextTokens {
            ids: encoding.get_ids().to_vec(),
            segments: encoding.get_type_ids().to_vec(),
            cut: whole - kept,
        })
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        match self.inner.encode_fast(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => invalid!("{}: cannot tokenize the text: {error}", self.label),
        }
    }

    /// The text of `ids`; special tokens are left out, bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let failed = |error| Error::Invalid(format!("{}: cannot decode token ids: {error}", self.label));
        self.inner.decode(ids, true).map_err(failed)
    }

    /// The id of a token by its text, special tokens included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Decodes ids as they are generated after the ids `context` (the prompt; may be empty).
    ///
    /// # Errors
    /// When the tokenizer's decoder fails on the context.
    pub fn stream(&self, context: &[u32]) -> Result<TextStream<'_>> {
        let ids = context[context.len().saturating_sub(STREAM_CONTEXT)..].to_vec();
        let shown = self.decode(&ids)?;
        Ok(TextStream { tokenizer: self, begin: ids.len(), ids, shown })
    }
}

/// Turns ids into text piece by piece; the pieces joined are the text of all ids, and no piece ends within
/// a character.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Context and the ids that have no text yet.
    ids: Vec<u32>,
    /// First id that has no text yet.
    begin: usize,
    /// Text of `ids[..begin]`.
    shown: String,
}

impl TextStream<'_> {
    /// Takes one more id and returns the text that is now complete, often of this id, sometimes empty.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.ids.len() - self.begin < MAX_PENDING {
            return Ok(String::new());
        }
        self.emit(&text)
    }

    /// The text of ids that did not become a whole character.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn finish(mut self) -> Result<String> {
        let text = self.tokenizer.decode(&self.ids)?;
        self.emit(&text)
    }

    fn emit(&mut self, text: &str) -> Result<String> {
        // Where the context ends within a character its text changes; then continue after what is common.
        let common: usize =
            text.chars().zip(self.shown.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        let piece = text[common..].to_owned();
        self.ids.drain(..self.ids.len().saturating_sub(STREAM_CONTEXT));
        self.begin = self.ids.len();
        self.shown = self.tokenizer.decode(&self.ids)?;
        Ok(piece)
    }
}
