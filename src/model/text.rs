//! Cutting a text into the windows a language model is evaluated on.

use super::example::Example;
use super::tokenizer::Tokenizer;
use crate::error::{Result, invalid};

/// What separates documents in a text.
const SEPARATOR: &str = "<|endoftext|>";

/// What to do with tokens at the end of a text that do not fill a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Leave them out unless they are all there is: every prediction then has the same share of context
    /// lengths, which keeps losses comparable.
    Drop,
    /// A last, shorter window.
    Keep,
}

/// [`windows_with`] dropping the tail.
///
/// # Errors
/// As [`windows_with`].
pub fn windows(text: &[u8], tokenizer: &Tokenizer, bos: Option<u32>, context: usize) -> Result<Vec<Example>> {
    windows_with(text, tokenizer, bos, context, Tail::Drop)
}

/// The windows of a text, none longer than `context` tokens.
///
/// A text without `<|endoftext|>` is one stream of tokens, cut into windows of `context` inputs that
/// predict the `context` tokens one further on; no special tokens are added. With the separator, each
/// document between separators is a sequence of its own: stripped of white space around it, with `bos`
/// (if any) in front; a longer one is continued in further windows, and none of it is dropped.
///
/// # Errors
/// When the text is not UTF-8 or holds fewer than two tokens.
pub fn windows_with(
    text: &[u8],
    tokenizer: &Tokenizer,
    bos: Option<u32>,
    context: usize,
    tail: Tail,
) -> Result<Vec<Example>> {
    if context == 0 {
        invalid!("windows of 0 tokens; want at least 1");
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            invalid!("the text is not UTF-8: byte {} is not part of a character", error.valid_up_to())
        }
    };
    let mut windows = Vec::new();
    if text.contains(SEPARATOR) {
        for document in text.split(SEPARATOR).map(str::trim).filter(|document| !document.is_empty()) {
            let mut ids: Vec<u32> = bos.into_iter().collect();
            ids.extend(tokenizer.encode(document)?);
            windows.extend(cut(&ids, context));
        }
    } else {
        let ids = tokenizer.encode(text)?;
        windows.extend(cut(&ids, context));
        let is_partial = |window: &Example| window.inputs.len() < context;
        if tail == Tail::Drop && windows.len() > 1 && windows.last().is_some_and(is_partial) {
            windows.pop();
        }
    }
    if windows.is_empty() {
        invalid!("the text has {} bytes, fewer than two tokens: there is nothing to predict", text.len());
    }
    Ok(windows)
}

fn cut(ids: &[u32], context: usize) -> impl Iterator<Item = Example> {
    let inputs = &ids[..ids.len().saturating_sub(1)];
    let targets = ids.get(1..).unwrap_or_default();
    let pairs = inputs.chunks(context).zip(targets.chunks(context));
    pairs.map(|(inputs, targets)| Example::window(inputs.to_vec(), targets.to_vec()))
}
