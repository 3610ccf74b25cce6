//! Texts at which a generation ends.

use crate::error::{Result, invalid};

/// Watches a text that comes piece by piece for the first of several stop strings to be complete; of two that end at the
/// same place, the longer one counts. What could be the beginning of one is held back until that is known, so nothing of
/// that stop string is ever shown. How the text is cut into pieces changes nothing.
#[derive(Clone, Debug, Default)]
pub struct StopText {
    stops: Vec<String>,
    held: String,
}

impl StopText {
    /// For a text that ends at any of `stops`.
    ///
    /// # Errors
    /// When one is empty.
    pub fn new(stops: &[String]) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            invalid!("a stop string is empty, which would stop everything; give at least one character");
        }
        Ok(Self { stops: stops.to_vec(), held: String::new() })
    }

    /// Takes the next piece; returns what may be shown now, and whether the text ends with it.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = first_complete(&self.held, &self.stops) {
            let text = self.held[..at].to_owned();
            self.held.clear();
            return (text, true);
        }
        // The longest end of the text that begins a stop string.
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let keep = self.held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back when the text ends for another reason.
    pub fn finish(self) -> String {
        self.held
    }
}

/// Where the stop string begins that is complete first.
fn first_complete(text: &str, stops: &[String]) -> Option<usize> {
    let ends = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at)));
    ends.min().map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stop_strings_span_pieces_and_are_never_shown() {
        let mut text = StopText::new(&["\n\nUser:".to_owned(), "END".to_owned()]).unwrap();
        assert_eq!(text.push("a\n"), ("a".to_owned(), false));
        assert_eq!(text.push("b\n\nUs"), ("\nb".to_owned(), false));
        assert_eq!(text.push("E"), ("\n\nUs".to_owned(), false));
        assert_eq!(text.push("EN"), ("E".to_owned(), false));
        assert_eq!(text.push("D of it"), (String::new(), true));
        assert!(StopText::new(&[String::new()]).is_err());
    }

    /// What a stop string means: text grows by characters, and ends when it has one as its end.
    fn by_characters(text: &str, stops: &[String]) -> Option<String> {
        let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
        ends.map(|end| &text[..end]).find_map(|grown| {
            let left = stops.iter().filter_map(|stop| grown.strip_suffix(stop.as_str()));
            left.min_by_key(|left| left.len()).map(str::to_owned)
        })
    }

    #[test]
    fn the_stop_string_that_is_complete_first_ends_the_text() {
        let stops = ["b".to_owned(), "ébé".to_owned(), "xyz".to_owned(), "yz".to_owned()];
        for pieces in [&["éb", "éé"][..], &["ébéé"], &["é", "b"]] {
            let mut text = StopText::new(&stops).unwrap();
            let shown: Vec<_> =
                pieces.iter().map(|piece| text.push(piece)).find(|(_, end)| *end).into_iter().collect();
            assert_eq!(shown, [("é".to_owned(), true)], "{pieces:?}");
        }
        assert_eq!(StopText::new(&stops).unwrap().push("axyz"), ("a".to_owned(), true));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(pieces in proptest::collection::vec("[abé]{0,3}", 0..9), stops in proptest::collection::vec("[abé]{1,4}", 0..3)) {
            let whole = pieces.concat();
            let want = by_characters(&whole, &stops);
            let mut text = StopText::new(&stops).unwrap();
            let (mut got, mut stopped) = (String::new(), false);
            for piece in &pieces {
                let (shown, end) = text.push(piece);
                got.push_str(&shown);
                if end {
                    stopped = true;
                    break;
                }
            }
            if !stopped {
                got.push_str(&text.finish());
            }
            prop_assert_eq!(stopped, want.is_some());
            prop_assert_eq!(got, want.unwrap_or(whole));
        }
    }
}
