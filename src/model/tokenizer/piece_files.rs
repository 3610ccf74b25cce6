//! Files with SentencePiece pieces: llama2.c's `tokenizer.bin` and SentencePiece's own `tokenizer.model`.

use super::sentencepiece::{Kind, Piece};
use crate::error::{Error, Result, invalid};

/// Pieces of llama2.c's tokenizer file: i32 length of the longest piece, then f32 score, i32 length and bytes of each
/// (little-endian). Spaces are written as such there, and the first three pieces are unknown, begin and end.
pub(crate) fn llama2c(bytes: &[u8], label: &str) -> Result<Vec<Piece>> {
    let Some((longest, mut rest)) = bytes.split_first_chunk::<4>() else {
        invalid!("{label} is truncated: {} bytes are no tokenizer of llama2.c", bytes.len());
    };
    let longest = i32::from_le_bytes(*longest);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let id = pieces.len();
        let truncated = || Error::Invalid(format!("{label} is truncated or damaged within piece {id}"));
        let (score, after) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = i32::from_le_bytes(*length);
        let text =
            usize::try_from(length).ok().and_then(|length| after.get(..length)).ok_or_else(truncated)?;
        if length > longest {
            invalid!(
                "{label}: piece {id} has {length} bytes, the longest is said to have {longest}; the file is \
                 damaged or no tokenizer of llama2.c"
            );
        }
        rest = &after[text.len()..];
        let Ok(text) = std::str::from_utf8(text) else {
            invalid!("{label}: piece {id} is not UTF-8 text");
        };
        let kind = match id {
            0 => Kind::Unknown,
            1 | 2 => Kind::Control,
            _ if is_byte(text) => Kind::Byte,
            _ => Kind::Normal,
        };
        // The exporter writes the begin and end tokens between line ends.
        let text = if kind == Kind::Control { text.trim().to_owned() } else { text.replace(' ', "▁") };
        pieces.push(Piece { text, score: f32::from_le_bytes(*score), kind });
    }
    Ok(pieces)
}

/// `<0x00>` to `<0xFF>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|text| text.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What a `tokenizer.model` says.
pub(crate) struct ModelProto {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) prefix_space: bool,
}

/// Reads SentencePiece's `ModelProto` (`sentencepiece_model.proto`): pieces are field 1, of the trainer (2) the type
/// of model is field 3, of the normalizer (3) `add_dummy_prefix` is field 3 and `remove_extra_whitespaces` 4.
pub(crate) fn sentencepiece(bytes: &[u8], label: &str) -> Result<ModelProto> {
    let mut pieces = Vec::new();
    // Defaults of the schema.
    let (mut kind_of_model, mut prefix_space, mut removes_spaces) = (1, true, true);
    for field in Fields::new(bytes) {
        match field_of(field, label)? {
            (1, Wire::Bytes(message)) => pieces.push(piece(message, pieces.len(), label)?),
            (2, Wire::Bytes(message)) => {
                for field in Fields::new(message) {
                    if let (3, Wire::Number(number)) = field_of(field, label)? {
                        kind_of_model = number;
                    }
                }
            }
            (3, Wire::Bytes(message)) => {
                for field in Fields::new(message) {
                    match field_of(field, label)? {
                        (1, Wire::Bytes(name)) if !matches!(name, b"identity" | b"") => {
                            let name = String::from_utf8_lossy(name);
                            invalid!(
                                "{label} normalizes text with `{name}`, which is not supported; convert it to a \
                                 tokenizer.json with transformers' AutoTokenizer and save_pretrained"
                            );
                        }
                        (3, Wire::Number(number)) => prefix_space = number != 0,
                        (4, Wire::Number(number)) => removes_spaces = number != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if pieces.is_empty() {
        invalid!("{label} holds no pieces; want a SentencePiece model");
    }
    if kind_of_model != 2 || removes_spaces {
        let what = if kind_of_model != 2 { "is no BPE model" } else { "removes extra spaces" };
        invalid!(
            "{label} {what}, which is not supported; convert it to a tokenizer.json with transformers' \
             AutoTokenizer and save_pretrained"
        );
    }
    Ok(ModelProto { pieces, prefix_space })
}

fn piece(message: &[u8], id: usize, label: &str) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    for field in Fields::new(message) {
        match field_of(field, label)? {
            (1, Wire::Bytes(text)) => match std::str::from_utf8(text) {
                Ok(text) => piece.text = text.to_owned(),
                Err(_) => invalid!("{label}: piece {id} is not UTF-8 text"),
            },
            (2, Wire::Word(bits)) => piece.score = f32::from_bits(bits),
            (3, Wire::Number(number)) => match Kind::from_number(number) {
                Some(kind) => piece.kind = kind,
                None => invalid!("{label}: piece {id} has the type {number}; want 1 to 6"),
            },
            _ => {}
        }
    }
    Ok(piece)
}

/// A value of a protobuf message.
enum Wire<'a> {
    Number(u64),
    Word(u32),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message; `None` where it is damaged, and nothing after that.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Wire::Number(self.number()?),
            1 => Wire::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Word(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn field_of<'a>(field: Option<(u64, Wire<'a>)>, label: &str) -> Result<(u64, Wire<'a>)> {
    field.ok_or_else(|| Error::Invalid(format!("{label} is truncated or no SentencePiece model")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(pieces: &[(f32, &str)]) -> Vec<u8> {
        let longest = pieces.iter().map(|(_, text)| text.len()).max().unwrap_or(0) as i32;
        let mut bytes = longest.to_le_bytes().to_vec();
        for (score, text) in pieces {
            bytes.extend(score.to_le_bytes());
            bytes.extend((text.len() as i32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn llama2c_pieces_and_cut_files() {
        let bytes =
            bin(&[(0.0, "<unk>"), (0.0, "\n<s>\n"), (0.0, "\n</s>\n"), (0.0, "<0x0A>"), (-1.0, " t")]);
        let pieces = llama2c(&bytes, "x").unwrap();
        let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["<unk>", "<s>", "</s>", "<0x0A>", "▁t"]);
        assert_eq!(pieces[3].kind, Kind::Byte);
        let ends: Vec<usize> = (0..bytes.len()).filter(|&end| llama2c(&bytes[..end], "x").is_ok()).collect();
        // Whole pieces are a whole file: the format does not say how many there are.
        assert_eq!(ends, [4, 17, 30, 44, 58]);
    }

    #[test]
    fn a_lying_length_is_an_error() {
        for length in [-1i32, i32::MAX, 100] {
            let mut bytes = bin(&[(0.0, "<unk>")]);
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            assert!(llama2c(&bytes, "x").is_err(), "{length}");
        }
    }
}
