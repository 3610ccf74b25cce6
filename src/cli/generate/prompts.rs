//! Where prompts come from: the command line, files, standard input, conversations.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anybit::model::Model;
use anybit::model::chat::Message;
use anyhow::{Context as _, Result, bail};

#[derive(clap::Args)]
#[group(id = "source", required = true, multiple = true)]
pub(super) struct PromptArgs {
    /// Text to continue; several are run together as one batch and printed one after another
    #[arg(long, value_name = "TEXT", group = "source", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// File with one text to continue, up to its last character; - for standard input
    #[arg(long, value_name = "FILE", group = "source")]
    prompt_file: Vec<PathBuf>,
    /// File with a text to continue in every line that is not empty; in a .jsonl file every line is a JSON text, or an
    /// object with the text as `prompt`. - for standard input
    #[arg(long, value_name = "FILE", group = "source")]
    prompts: Option<PathBuf>,
    /// Write every prompt as what a user says, in the model's chat template, and answer it
    #[arg(long)]
    chat: bool,
    /// What the system says before
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    system: Option<String>,
    /// JSON file with a conversation to answer: [{"role": "user", "content": "…"}, …]; - for standard input
    #[arg(long, value_name = "FILE", group = "source", conflicts_with = "system")]
    messages: Option<PathBuf>,
}

/// A prompt before it is tokenized.
pub(super) enum Text {
    Plain(String),
    Chat(Vec<Message>),
}

/// What is shown of a prompt.
pub(super) struct Prompt {
    /// The text as it was given; of a conversation the last message.
    pub(super) text: String,
    /// Whether the continuation belongs to the same text.
    pub(super) continues: bool,
}

impl PromptArgs {
    /// All prompts, in the order command line, files, list, conversation.
    pub(super) fn read(&self) -> Result<Vec<Text>> {
        let mut plain = self.prompt.clone();
        for path in &self.prompt_file {
            plain.push(read(path)?);
        }
        if let Some(path) = &self.prompts {
            let before = plain.len();
            let is_json = path.extension().is_some_and(|ending| ending == "jsonl");
            for (number, line) in read(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
            {
                plain.push(match is_json {
                    true => {
                        json_line(line).with_context(|| format!("{}, line {}", path.display(), number + 1))?
                    }
                    false => line.to_owned(),
                });
            }
            if plain.len() == before {
                bail!("{} holds no prompts; want one in every line", path.display());
            }
        }
        for (i, text) in plain.iter().enumerate() {
            if text.is_empty() {
                bail!("prompt {} is empty; give at least one character to continue", i + 1);
            }
        }
        let conversation = |text: String| {
            let system = self.system.iter().map(|system| Message::new("system", system));
            Text::Chat(system.chain([Message::new("user", &text)]).collect())
        };
        let mut texts: Vec<Text> = match self.chat {
            true => plain.into_iter().map(conversation).collect(),
            false => plain.into_iter().map(Text::Plain).collect(),
        };
        if let Some(path) = &self.messages {
            texts.push(Text::Chat(messages(path)?));
        }
        Ok(texts)
    }
}

impl Text {
    /// What to show of it, its ids, and ids that end what follows besides the model's own.
    pub(super) fn encode(self, model: &Model) -> Result<(Prompt, Vec<u32>, Vec<u32>)> {
        match self {
            Self::Plain(text) => {
                let ids = model.encode_prompt(&text)?;
                Ok((Prompt { text, continues: true }, ids, Vec::new()))
            }
            Self::Chat(messages) => {
                let Some(template) = model.chat_template()? else {
                    bail!(
                        "model `{}` has no chat template (chat_template in tokenizer_config.json, or \
                         chat_template.jinja), so it was not made for conversations; leave --chat and --messages out",
                        model.name()
                    );
                };
                let (ids, ends) = model.encode_chat(&template, &messages)?;
                let text = messages.last().map(|message| message.content.clone()).unwrap_or_default();
                Ok((Prompt { text, continues: false }, ids, ends))
            }
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let what = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        "standard input".to_owned()
    } else {
        bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        path.display().to_string()
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => bail!("{what} is not UTF-8 text: {}", error.utf8_error()),
    }
}

fn json_line(line: &str) -> Result<String> {
    let value: serde_json::Value = serde_json::from_str(line).context("not valid JSON")?;
    match value.as_str().or_else(|| value["prompt"].as_str()) {
        Some(text) => Ok(text.to_owned()),
        None => bail!("want a JSON text, or an object with the text as `prompt`"),
    }
}

fn messages(path: &Path) -> Result<Vec<Message>> {
    let wrong = || format!("{}: want [{{\"role\": \"user\", \"content\": \"…\"}}, …]", path.display());
    let messages: Vec<Message> = serde_json::from_str(&read(path)?).with_context(wrong)?;
    if messages.is_empty() {
        bail!("{} holds no messages; want at least one", path.display());
    }
    Ok(messages)
}
