//! The one error type of the library: every message says what, got, want and do.

use std::path::{Path, PathBuf};

/// Result of every fallible function of the library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. *Invalid* means the caller or a file erred; *Unavailable* means that this
/// machine cannot do what was asked, although the request is sound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request or the data is wrong: unknown name, shape mismatch, corrupt content.
    #[error("{0}")]
    Invalid(String),
    /// This device or machine cannot do it: no adapter, a limit, out of memory, device lost.
    #[error("{0}")]
    Unavailable(String),
    /// The operating system refused a file operation.
    #[error("{action} {}: {cause}", path.display())]
    Io {
        /// What was being done, as a verb phrase ("cannot read").
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error. Part of the message, so not also a source of this error.
        cause: std::io::Error,
    },
}

impl Error {
    /// An [`Error::Invalid`] from anything printable.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// An [`Error::Unavailable`] from anything printable.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable(message.into())
    }

    /// The same with control characters escaped, for messages with names that come from damaged files.
    pub(crate) fn on_one_line(self) -> Self {
        let escaped = |message: String| match message.contains(char::is_control) {
            true => message.chars().flat_map(escape).collect(),
            false => message,
        };
        match self {
            Self::Invalid(message) => Self::Invalid(escaped(message)),
            Self::Unavailable(message) => Self::Unavailable(escaped(message)),
            io @ Self::Io { .. } => io,
        }
    }

    /// An [`Error::Io`] for `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, cause: std::io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_path_buf(), cause }
    }
}

/// A character as it is, or its escape.
fn escape(c: char) -> impl Iterator<Item = char> {
    let plain = (!c.is_control()).then_some(c);
    let escaped = c.is_control().then(|| c.escape_default());
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// Returns early with [`Error::Invalid`], formatted like `format!`.
macro_rules! invalid {
    ($($arg:tt)*) => { return Err($crate::error::Error::Invalid(format!($($arg)*))) };
}
pub(crate) use invalid;

/// The `count` candidates nearest to `name` in edit distance (Levenshtein 1966), nearest first;
/// candidates at the same distance keep their order.
pub fn closest_names<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let mut ranked: Vec<(usize, &str)> =
        candidates.map(|candidate| (edit_distance(name, candidate), candidate)).collect();
    ranked.sort_by_key(|&(distance, _)| distance);
    ranked.into_iter().take(count).map(|(_, candidate)| candidate).collect()
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(
            closest_names("q_prj", ["down_proj", "q_proj", "k_proj"].into_iter(), 2),
            ["q_proj", "k_proj"]
        );
    }
}
