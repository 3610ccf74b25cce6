//! Chat templates: how a model wants a conversation written as one text, as Hugging Face's tokenizers describe it
//! (`chat_template` of `tokenizer_config.json`, or `chat_template.jinja`), rendered by minijinja.
//!
//! Templates see `messages`, `add_generation_prompt`, the special tokens (`bos_token`, `eos_token`, …),
//! `raise_exception`, `strftime_now` and Python's methods of texts, lists and dictionaries. Blocks `{% generation %}`,
//! which mark what an assistant said for training, are rendered as if they were not there.

use crate::error::{Error, Result, invalid};
use minijinja::value::{Kwargs, ViaDeserialize};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Further fields that some templates read.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Message {
    /// A message with nothing but a role and a text.
    pub fn new(role: &str, content: &str) -> Self {
        Self { role: role.to_owned(), content: content.to_owned(), more: Map::new() }
    }
}

/// A compiled template and the special tokens it may name.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    tokens: Map<String, Value>,
    label: String,
}

/// Steps after which a template is stopped: templates of models take some thousands for a long conversation.
const FUEL: u64 = 20_000_000;
/// Longest text of a template, bytes.
const MAX_LENGTH: usize = 1 << 20;
/// Tokens that end a turn in well-known templates; they end a reply where the template writes them.
const TURN_ENDS: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<|end|>", "<|endofturn|>", "<end_of_turn>", "<|end_of_text|>", "</s>"];

impl ChatTemplate {
    /// The template of a model: `jinja`, the text of `chat_template.jinja`, or else what `config`, the text of
    /// `tokenizer_config.json`, holds; `None` where neither has one. `label` names the model in errors.
    ///
    /// # Errors
    /// When `config` is not JSON, or the template is not valid.
    pub(crate) fn of(config: Option<&str>, jinja: Option<&str>, label: &str) -> Result<Option<Self>> {
        let config: Value = match config {
            None => Value::Null,
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Error::Invalid(format!("{label}: tokenizer_config.json is not valid JSON: {error}"))
            })?,
        };
        let stored = || match config.get("chat_template") {
            Some(Value::String(text)) => Some(text.clone()),
            // Several by name.
            Some(Value::Array(list)) => {
                let named = |name: &str| list.iter().find(|entry| entry["name"] == name);
                let entry = named("default").or(list.first())?;
                entry["template"].as_str().map(str::to_owned)
            }
            _ => None,
        };
        let Some(source) = jinja.map(str::to_owned).or_else(stored) else { return Ok(None) };
        let mut tokens = Map::new();
        for (key, value) in
            config.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with("_token"))
        {
            // Either the text or an object that has it as `content`.
            if let Some(text) = value.as_str().or_else(|| value["content"].as_str()) {
                tokens.insert(key.clone(), text.into());
            }
        }
        Self::new(&source, tokens, label).map(Some)
    }

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Compiles `source`; `tokens` are further variables.
    ///
    /// # Errors
    /// When the template is too long or not valid.
    pub fn new(source: &str, tokens: Map<String, Value>, label: &str) -> Result<Self> {
        if source.len() > MAX_LENGTH {
            invalid!("{label}: the chat template has {} bytes, {MAX_LENGTH} are allowed", source.len());
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<String, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            jiff::Timestamp::now().strftime(&format).to_string()
        });
        environment.add_filter("tojson", to_json);
        environment.add_template_owned("chat", without_generation_blocks(source)).map_err(|error| {
            Error::Invalid(format!("{label}: the chat template is not valid: {}", cause(&error)))
        })?;
        Ok(Self { environment, source: source.to_owned(), tokens, label: label.to_owned() })
    }

    /// The conversation as one text, special tokens included; it ends where the reply begins.
    ///
    /// # Errors
    /// When the template refuses the conversation, or does not come to an end.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let wrong = |error: minijinja::Error| {
            Error::Invalid(format!(
                "{}: the chat template refuses this conversation: {}",
                self.label,
                cause(&error)
            ))
        };
        let template = self.environment.get_template("chat").map_err(wrong)?;
        let variables = context! {
            messages => messages,
            add_generation_prompt => true,
            ..minijinja::Value::from_serialize(&self.tokens)
        };
        template.render(variables).map_err(wrong)
    }

    /// Texts of tokens that end a reply: the model's end of text, and ends of turns that the template writes.
    pub fn turn_ends(&self) -> Vec<&str> {
        let eos = self.tokens.get("eos_token").and_then(Value::as_str);
        let written = TURN_ENDS.into_iter().filter(|end| self.source.contains(end));
        eos.into_iter().chain(written).collect()
    }
}

/// Python's `json.dumps`: separators with spaces, nothing escaped beyond JSON's needs; `indent` as there.
fn to_json(
    value: ViaDeserialize<Value>,
    options: Kwargs,
) -> std::result::Result<minijinja::Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Other options of Python's function change nothing here.
    let _: (Option<bool>, Option<bool>) = (options.get("ensure_ascii")?, options.get("sort_keys")?);
    let mut text = Vec::new();
    let written = match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.0.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        }
        None => value.0.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced)),
    };
    let text = written.ok().and_then(|()| String::from_utf8(text).ok());
    let text = text.ok_or_else(|| minijinja::Error::new(ErrorKind::BadSerialization, "no JSON"))?;
    Ok(minijinja::Value::from_safe_string(text))
}

/// `{"a": 1, "b": [2, 3]}`
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

/// `{% generation %}` and its end as blocks that are always rendered.
fn without_generation_blocks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(begin) = rest.find("{%") {
        let Some(len) = rest[begin..].find("%}") else { break };
        let tag = &rest[begin..begin + len + 2];
        let inner = tag[2..len].trim_matches(['-', '+']).trim();
        text.push_str(&rest[..begin]);
        match inner {
            "generation" => text.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endif")),
            _ => text.push_str(tag),
        }
        rest = &rest[begin + len + 2..];
    }
    text.push_str(rest);
    text
}

/// One line that says what is wrong and where.
fn cause(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let what: String = what.chars().take(300).collect();
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Map<String, Value> {
        let tokens = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>"});
        tokens.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn conversations_are_written_as_transformers_writes_them() {
        let cases: Value =
            serde_json::from_str(include_str!("testdata/chat.json")).expect("the file is JSON");
        for case in cases["cases"].as_array().expect("a list") {
            let name = case["name"].as_str().expect("a name");
            let source = case["template"].as_str().expect("a text");
            let template = ChatTemplate::new(source, tokens(), "test").expect(name);
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).expect(name);
            match &case["text"] {
                Value::String(want) => assert_eq!(template.render(&messages).expect(name), *want, "{name}"),
                _ => {
                    let error = template.render(&messages).expect_err(name).to_string();
                    let want = case["error"].as_str().expect("an error");
                    assert!(error.contains(want) && !error.contains('\n'), "{name}: {error}");
                }
            }
        }
    }

    #[test]
    fn templates_come_from_the_config_or_a_file_of_their_own() {
        let of = |config: &str, jinja: Option<&str>| {
            let template = ChatTemplate::of(Some(config), jinja, "test")?;
            template.map(|template| template.render(&[Message::new("user", "x")])).transpose()
        };
        let config =
            r#"{"chat_template": "{{ eos_token }}", "eos_token": {"content": "<e>", "lstrip": false}}"#;
        assert_eq!(of(config, None).unwrap().as_deref(), Some("<e>"));
        assert_eq!(of(config, Some("{{ messages[0].content }}")).unwrap().as_deref(), Some("x"));
        let named = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(of(named, None).unwrap().as_deref(), Some("d"));
        assert_eq!(of("{}", None).unwrap(), None);
        assert!(of("{", None).unwrap_err().to_string().contains("not valid JSON"));
    }

    #[test]
    fn bad_templates_are_an_error() {
        let error = |source: &str| {
            let rendered = ChatTemplate::new(source, tokens(), "test")
                .and_then(|t| t.render(&[Message::new("user", "x")]));
            rendered.unwrap_err().to_string()
        };
        assert!(error("{% if %}").contains("template is not valid"));
        assert!(error("{{ 1 + }}").contains("line 1"));
        assert!(error("{{ raise_exception('no\\nway') }}").contains("refuses this conversation: no way"));
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(error(endless).contains("fuel"), "{}", error(endless));
        assert!(error(&"x".repeat(MAX_LENGTH + 1)).contains("are allowed"));
    }

    #[test]
    fn turns_end_where_the_template_says() {
        let template = ChatTemplate::new("<|im_start|>x<|im_end|>", tokens(), "test").unwrap();
        assert_eq!(template.turn_ends(), ["</s>", "<|im_end|>"]);
    }
}
