//! Labelled texts: lines of tab-separated fields.
//!
//! A line is `text<TAB>label`, or `text<TAB>text<TAB>label` for pairs; a file of one field per line has no labels.
//! Fields are plain text: quotes and backslashes mean themselves, and a text cannot hold a tab or the end of a line.
//! Lines end in LF or CRLF; blank ones are passed over. A first line of column names is a header; its columns may
//! stand in any order, and others than text and label (`index`, `id` …) are passed over.

use crate::error::{Result, invalid};

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledText {
    /// Its number, from 1.
    pub line: usize,
    /// The text, or the first of a pair.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// The class; `None` in a file without labels.
    pub class: Option<u32>,
}

const TEXT: [&str; 8] =
    ["sentence", "text", "sentence1", "text1", "premise", "question", "question1", "query"];
const PAIR: [&str; 6] = ["sentence2", "text2", "hypothesis", "question2", "passage", "answer"];
const LABEL: [&str; 3] = ["label", "labels", "class"];
const OTHER: [&str; 4] = ["index", "idx", "id", "guid"];

/// Where a line has what.
struct Columns {
    /// Fields of a line.
    count: usize,
    text: usize,
    pair: Option<usize>,
    label: Option<usize>,
}

/// Parses the file called `name`. `labels` are the names of the classes: a label is one of them, or the number of a
/// class from 0; without names a column of labels is passed over.
///
/// # Errors
/// When the content is not UTF-8, lines have different numbers of fields, a label is unknown, or there is no text at
/// all; the message names the line.
pub fn parse(bytes: &[u8], name: &str, labels: Option<&[String]>) -> Result<Vec<LabelledText>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut columns: Option<(Columns, usize)> = None;
    let mut rows = Vec::new();
    for (line, bytes) in bytes.split(|&byte| byte == b'\n').enumerate().map(|(i, bytes)| (i + 1, bytes)) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to() + 1;
                invalid!("{name}, line {line}: byte {at} of the line is not UTF-8; convert the file to UTF-8")
            }
        };
        if text.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = text.split('\t').collect();
        let (columns, first) = match &columns {
            Some((columns, first)) => (columns, *first),
            None => {
                if let Some(named) = header(&fields, name, line)? {
                    columns = Some((named, line));
                    continue;
                }
                let (columns, first) = columns.insert((unnamed(fields.len(), name, line)?, line));
                (&*columns, *first)
            }
        };
        if fields.len() != columns.count {
            let (got, want) = (fields.len(), columns.count);
            invalid!(
                "{name}, line {line} has {got} fields separated by tabs, line {first} has {want}; want the same number \
                 in every line, a text cannot hold a tab"
            );
        }
        let class = match (columns.label, labels) {
            (Some(column), Some(labels)) => Some(class(fields[column], labels, name, line)?),
            _ => None,
        };
        rows.push(LabelledText {
            line,
            text: fields[columns.text].to_owned(),
            pair: columns.pair.map(|column| fields[column].to_owned()),
            class,
        });
    }
    if rows.is_empty() {
        invalid!("{name} holds no text; want lines of text<TAB>label");
    }
    Ok(rows)
}

/// The columns of a first line that names them; `None` where it is data already.
fn header(fields: &[&str], name: &str, line: usize) -> Result<Option<Columns>> {
    let names: Vec<String> = fields.iter().map(|field| field.trim().to_lowercase()).collect();
    let of = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
    let is_known =
        |name: &String| [&TEXT[..], &PAIR, &LABEL, &OTHER].iter().any(|k| k.contains(&name.as_str()));
    if of(&LABEL).is_none() && !names.iter().all(is_known) {
        return Ok(None);
    }
    let Some(text) = of(&TEXT) else {
        invalid!(
            "{name}, line {line} is a header without a column of texts: got {}; call it sentence or text (for pairs \
             sentence1 and sentence2)",
            names.join(", ")
        );
    };
    Ok(Some(Columns { count: fields.len(), text, pair: of(&PAIR), label: of(&LABEL) }))
}

/// The columns of a file without a header.
fn unnamed(count: usize, name: &str, line: usize) -> Result<Columns> {
    Ok(match count {
        1 => Columns { count, text: 0, pair: None, label: None },
        2 => Columns { count, text: 0, pair: None, label: Some(1) },
        3 => Columns { count, text: 0, pair: Some(1), label: Some(2) },
        _ => invalid!(
            "{name}, line {line} has {count} fields separated by tabs and no header; want text<TAB>label, \
             text<TAB>text<TAB>label, or a header that names the columns, such as sentence<TAB>label"
        ),
    })
}

fn class(field: &str, labels: &[String], name: &str, line: usize) -> Result<u32> {
    let field = field.trim();
    let named = labels.iter().position(|label| label == field);
    let number = || field.parse::<usize>().ok().filter(|&class| class < labels.len());
    match named.or_else(number) {
        Some(class) => Ok(class as u32),
        None => {
            let shown: Vec<&str> = labels.iter().take(8).map(String::as_str).collect();
            let more = if labels.len() > shown.len() { ", …" } else { "" };
            invalid!(
                "{name}, line {line}: the label is `{field}`; want a number from 0 to {} or a name: {}{more}",
                labels.len().saturating_sub(1),
                shown.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["negative", "positive"].map(str::to_owned).to_vec()
    }

    fn read(text: &str) -> Result<Vec<LabelledText>> {
        parse(text.as_bytes(), "f.tsv", Some(&labels()))
    }

    /// Line, text, second text and class of each row.
    fn rows(text: &str) -> Vec<(usize, String, Option<String>, Option<u32>)> {
        read(text).unwrap().into_iter().map(|row| (row.line, row.text, row.pair, row.class)).collect()
    }

    fn row(
        line: usize,
        text: &str,
        pair: Option<&str>,
        class: Option<u32>,
    ) -> (usize, String, Option<String>, Option<u32>) {
        (line, text.to_owned(), pair.map(str::to_owned), class)
    }

    #[test]
    fn numbers_and_names_with_and_without_a_header() {
        let want = vec![row(1, "a fine day", None, Some(1)), row(2, "bad \"luck\"", None, Some(0))];
        assert_eq!(rows("a fine day\t1\nbad \"luck\"\t0\n"), want);
        assert_eq!(rows("a fine day\tpositive\r\nbad \"luck\"\tnegative"), want);
        let below: Vec<_> = want.iter().map(|(line, a, b, c)| (line + 1, a.clone(), b.clone(), *c)).collect();
        assert_eq!(rows("sentence\tlabel\na fine day\t1\nbad \"luck\"\t0"), below);
        assert_eq!(rows("\u{feff}Label\tidx\tText\n1\t7\ta fine day\n0\t8\tbad \"luck\""), below);
    }

    #[test]
    fn pairs_and_texts_alone() {
        assert_eq!(rows("a\tb\t1"), [row(1, "a", Some("b"), Some(1))]);
        assert_eq!(rows("label\tsentence2\tsentence1\n1\tb\ta"), [row(2, "a", Some("b"), Some(1))]);
        assert_eq!(rows("one\n\ntwo\n"), [row(1, "one", None, None), row(3, "two", None, None)]);
        assert_eq!(rows("sentence\none"), [row(2, "one", None, None)]);
        let unread = parse(b"a\tanything", "f", None).unwrap();
        assert_eq!((unread[0].text.as_str(), unread[0].class), ("a", None));
    }

    #[test]
    fn blank_lines_are_no_examples_and_empty_texts_are() {
        assert_eq!(rows("\r\n  \na\t1\n\n\t0\n"), [row(3, "a", None, Some(1)), row(5, "", None, Some(0))]);
    }

    /// A name of a class comes before the number that it looks like.
    #[test]
    fn names_come_first() {
        let stars = ["1".to_owned(), "2".to_owned()];
        let read = |text: &str| parse(text.as_bytes(), "f", Some(&stars)).unwrap()[0].class;
        assert_eq!((read("a\t1"), read("a\t2"), read("a\t0")), (Some(0), Some(1), Some(0)));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, wanted) in [
            (&b"a\t1\nb\t2\n"[..], &["f.tsv, line 2", "`2`", "from 0 to 1", "negative, positive"][..]),
            (b"a\t1\nb\t1.0", &["line 2", "`1.0`"]),
            (b"a\t1\nb\t-1", &["line 2", "`-1`"]),
            (b"a\t1\nb\t", &["line 2", "``"]),
            (b"a\t1\n\nb", &["line 3 has 1 fields", "line 1 has 2"]),
            (b"a\tb\tc\t1", &["line 1 has 4 fields", "header"]),
            (b"a\t1\nb\xff\t0", &["line 2", "byte 2", "not UTF-8"]),
            (b"label\tweight\n1\t2", &["line 1", "label, weight", "sentence"]),
            (b"", &["no text"]),
            (b"\n\r\n", &["no text"]),
            (b"sentence\tlabel\n", &["no text"]),
        ] {
            let error = parse(text, "f.tsv", Some(&labels())).unwrap_err().to_string();
            assert!(wanted.iter().all(|part| error.contains(part)), "{error:?} lacks one of {wanted:?}");
        }
    }
}
