//! SentencePiece's BPE: pieces with scores, of which the pair that makes the best one is merged first.

use super::document::{Added, Document, Token, template, vocabulary};
use crate::error::{Result, invalid};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Bytes of the longest piece; the usual limit is 16 characters.
const MAX_PIECE: usize = 4096;

/// What a piece is for; the numbers are those of SentencePiece and of GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl Kind {
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        let kinds = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        kinds.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// A piece; its id is its place. Spaces are written `▁`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) score: f32,
    pub(crate) kind: Kind,
}

/// A SentencePiece BPE tokenizer.
pub(crate) struct SentencePiece {
    pub(crate) pieces: Vec<Piece>,
    /// Whether a text begins with a space that is not there.
    pub(crate) prefix_space: bool,
    /// Put before every text.
    pub(crate) begin: Option<u32>,
    /// Put behind every text.
    pub(crate) end: Option<u32>,
}

impl SentencePiece {
    /// The text of its `tokenizer.json`; `label` names the source in errors.
    pub(crate) fn text(self, label: &str) -> Result<String> {
        let Self { pieces, prefix_space, .. } = &self;
        if pieces.is_empty() || pieces.len() > u32::MAX as usize {
            invalid!("{label}: the tokenizer has {} pieces; want at least one", pieces.len());
        }
        let mut ids: HashMap<&str, u32> = HashMap::with_capacity(pieces.len());
        for (id, piece) in pieces.iter().enumerate() {
            if piece.text.len() > MAX_PIECE {
                invalid!("{label}: piece {id} has {} bytes; want at most {MAX_PIECE}", piece.text.len());
            }
            if !piece.score.is_finite() {
                invalid!("{label}: piece {id} `{}` has the score {}", piece.text, piece.score);
            }
            if let Some(first) = ids.insert(&piece.text, id as u32) {
                invalid!(
                    "{label}: pieces {first} and {id} of the tokenizer are both `{}`; want different ones",
                    piece.text
                );
            }
        }
        let token = |id: Option<u32>| -> Result<Option<Token>> {
            match id.map(|id| (id, pieces.get(id as usize))) {
                None => Ok(None),
                Some((id, Some(piece))) => Ok(Some((piece.text.clone(), id))),
                Some((id, None)) => {
                    invalid!(
                        "{label}: special token {id} is beyond the {} pieces of the tokenizer",
                        pieces.len()
                    )
                }
            }
        };
        let (begin, end) = (token(self.begin)?, token(self.end)?);
        let of_kind = |kind: Kind| pieces.iter().enumerate().filter(move |(_, piece)| piece.kind == kind);
        let unknown = of_kind(Kind::Unknown).map(|(_, piece)| piece.text.clone()).next();
        let added = pieces.iter().enumerate().filter_map(|(id, piece)| match piece.kind {
            Kind::Unknown | Kind::Control => Some(Added::new(id as u32, &piece.text, true)),
            Kind::UserDefined => Some(Added::new(id as u32, &piece.text, false)),
            _ => None,
        });
        let tokens: Vec<Token> =
            pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), id as u32)).collect();
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let normalizer = match prefix_space {
            true => {
                json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]})
            }
            false => replace,
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if *prefix_space {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": of_kind(Kind::Byte).next().is_some(),
            "ignore_merges": false, "vocab": vocabulary(&tokens), "merges": merges(pieces, &ids),
        });
        let document = Document {
            added: added.collect(),
            normalizer,
            pre_tokenizer: Value::Null,
            post_processor: template(begin.as_ref(), end.as_ref()),
            decoder: json!({"type": "Sequence", "decoders": decoders}),
            model,
        };
        Ok(document.text())
    }
}

/// All pairs of pieces that make a piece, the best piece first: SentencePiece merges whatever makes a piece, and
/// chooses by its score.
fn merges(pieces: &[Piece], ids: &HashMap<&str, u32>) -> Vec<Value> {
    let part = |text: &str| {
        let id = *ids.get(text)?;
        matches!(pieces[id as usize].kind, Kind::Normal | Kind::UserDefined).then_some(id)
    };
    let mut order: Vec<usize> = (0..pieces.len()).filter(|&i| pieces[i].kind == Kind::Normal).collect();
    order.sort_by(|&a, &b| pieces[b].score.total_cmp(&pieces[a].score));
    let mut merges = Vec::new();
    for piece in order {
        let text = pieces[piece].text.as_str();
        let split = |(at, _): (usize, char)| Some((part(&text[..at])?, part(&text[at..])?));
        let mut pairs: Vec<(u32, u32)> = text.char_indices().skip(1).filter_map(split).collect();
        pairs.sort_unstable();
        let pair = |(a, b): (u32, u32)| json!([pieces[a as usize].text, pieces[b as usize].text]);
        merges.extend(pairs.into_iter().map(pair));
    }
    merges
}
