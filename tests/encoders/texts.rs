//! WordPiece, special tokens, pairs and truncation against transformers.

use super::{golden, ids, load};

#[test]
fn tokens_segments_and_truncation() {
    let model = load("classifier");
    let mut cut = 0;
    for text in golden()["texts"].as_array().unwrap() {
        let (first, pair) = (text["text"].as_str().unwrap(), text["pair"].as_str());
        let got = model.encode_text(first, pair, 24).unwrap();
        assert_eq!(got.ids, ids(&text["ids"]), "{first:?} {pair:?}");
        assert_eq!(got.segments, ids(&text["segments"]), "{first:?} {pair:?}");
        assert_eq!(got.cut as u64, text["cut"].as_u64().unwrap(), "{first:?} {pair:?}");
        cut += usize::from(got.cut > 0);
        if pair.is_none() && got.cut == 0 {
            assert_eq!(model.tokenizer().unwrap().encode_prompt(first).unwrap(), got.ids, "{first:?}");
        }
    }
    assert!(cut >= 3, "{cut} texts were cut");
}

#[test]
fn contexts_without_room() {
    let model = load("classifier");
    let ids = |most| model.encode_text("good bad", None, most).map(|text| text.ids.len());
    assert_eq!((ids(2).unwrap(), ids(3).unwrap(), ids(4).unwrap(), ids(9).unwrap()), (2, 3, 4, 4));
    let error = ids(1).unwrap_err().to_string();
    assert!(error.contains("1 tokens") && error.contains("2 special"), "{error}");
}
