//! Texts for the verbs that read some: from the command line, a file or standard input.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anybit::model::labelled::{self, LabelledText};
use anybit::model::{Example, Model, Task};
use anyhow::{Context as _, Result, bail};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct TextsArgs {
    /// A text; repeatable
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    text: Vec<String>,
    /// Texts, one a line; from a .tsv file its texts or pairs of texts, with or without labels [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Texts as a model reads them.
pub(crate) struct Texts {
    pub(crate) rows: Vec<LabelledText>,
    /// One per text; its first position is the output.
    pub(crate) examples: Vec<Example>,
    /// Texts that lost their end.
    pub(crate) cut: usize,
}

impl TextsArgs {
    /// The texts, each in at most the model's context.
    pub(crate) fn read(&self, model: &Model) -> Result<Texts> {
        let rows = self.rows(model)?;
        let most = model.graph().context;
        let mut examples = Vec::with_capacity(rows.len());
        let mut cut = 0;
        for row in &rows {
            let text = model
                .encode_text(&row.text, row.pair.as_deref(), most)
                .with_context(|| format!("text {}", row.line))?;
            if text.ids.is_empty() {
                bail!("text {} has no tokens; leave it out", row.line);
            }
            cut += usize::from(text.cut > 0);
            examples.push(Example::classified(text, row.class.unwrap_or(0)));
        }
        if cut > 0 {
            eprintln!(
                "WARNING: {cut} of {} texts are longer than the model's {most} tokens; their ends were CUT OFF",
                rows.len()
            );
        }
        Ok(Texts { rows, examples, cut })
    }

    fn rows(&self, model: &Model) -> Result<Vec<LabelledText>> {
        let of = |(at, text): (usize, &str)| LabelledText {
            line: at + 1,
            text: text.to_owned(),
            pair: None,
            class: None,
        };
        if !self.text.is_empty() {
            return Ok(self.text.iter().map(String::as_str).enumerate().map(of).collect());
        }
        let (name, bytes) = match &self.file {
            Some(path) => {
                let bytes = std::fs::read(path)
                    .map_err(|error| anybit::Error::io("cannot read the texts", path, error))?;
                (path.display().to_string(), bytes)
            }
            None => {
                if std::io::stdin().is_terminal() {
                    eprintln!("NOTE: reading texts from standard input, one a line");
                }
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
                ("standard input".to_owned(), bytes)
            }
        };
        let is_table = self.file.as_deref().and_then(Path::extension).is_some_and(|e| e == "tsv");
        if is_table {
            let labels = (model.task() == Task::Classification).then(|| model.labels());
            return Ok(labelled::parse(&bytes, &name, labels)?);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
                bail!("{name}, line {line} is not UTF-8; convert it to UTF-8")
            }
        };
        let rows: Vec<_> =
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(of).collect();
        if rows.is_empty() {
            bail!("{name} holds no text; want a text a line");
        }
        Ok(rows)
    }
}
