//! `name(value,key=value,...)` taken apart and read by type: formats, and the samplers of searches.

use crate::error::{Error, Result, invalid};

/// A name with its arguments, by position or by key.
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    /// Key (empty for an argument by position) and value.
    arguments: Vec<(&'a str, &'a str)>,
    /// Names of the parameters, in order; set by [`Call::expect`].
    keys: &'static [&'static str],
}

impl<'a> Call<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let text = text.trim();
        let unbalanced =
            || Error::Invalid(format!("`{text}`: unbalanced parentheses; want name(key=value,...)"));
        let (name, inside) = match text.split_once('(') {
            None if text.contains(')') => return Err(unbalanced()),
            None => (text, None),
            Some((name, rest)) => (name.trim_end(), Some(rest.strip_suffix(')').ok_or_else(unbalanced)?)),
        };
        if name.is_empty() {
            invalid!("`{text}` has no name; want name or name(key=value,...), e.g. int4(group=128)");
        }
        let inside = inside.map_or("", str::trim);
        if inside.contains(['(', ')']) {
            return Err(unbalanced());
        }
        let mut arguments: Vec<(&str, &str)> = Vec::new();
        for argument in split_list(inside).ok_or_else(unbalanced)? {
            let (key, value) = match argument.split_once('=') {
                Some((key, value)) => (key.trim(), value.trim()),
                None => ("", argument.trim()),
            };
            if key.is_empty() && argument.contains('=') {
                invalid!("`{text}`: an argument has no key; want key=value");
            }
            if value.is_empty() {
                let key = if key.is_empty() { "key" } else { key };
                invalid!("`{text}`: `{key}` has no value; want {key}=value");
            }
            if !key.is_empty() && arguments.iter().any(|(known, _)| *known == key) {
                invalid!("`{text}`: `{key}` is given twice; give it once");
            }
            arguments.push((key, value));
        }
        Ok(Self { name, arguments, keys: &[] })
    }

    /// Names the parameters, for arguments by position; a bare word that is a parameter stands for `word=true`.
    pub(crate) fn expect(mut self, keys: &'static [&'static str]) -> Result<Self> {
        self.keys = keys;
        let want = if keys.is_empty() { "it takes none".to_owned() } else { keys.join(", ") };
        let mut keyed = false;
        for (position, (key, value)) in self.arguments.clone().into_iter().enumerate() {
            let slot = &mut self.arguments[position];
            if key.is_empty() {
                if let Some(&flag) = keys.iter().find(|known| **known == value) {
                    *slot = (flag, "true");
                    continue;
                }
                if keyed {
                    invalid!(
                        "`{}`: `{value}` stands after key=value; give its key, one of: {want}",
                        self.name
                    );
                }
                match keys.get(position) {
                    Some(key) => slot.0 = key,
                    None => invalid!("`{}`: `{value}` is one argument too many; known: {want}", self.name),
                }
            } else if !keys.contains(&key) {
                invalid!("`{}` has no parameter `{key}`; known: {want}", self.name);
            } else {
                keyed = true;
            }
        }
        for (index, (key, _)) in self.arguments.iter().enumerate() {
            if self.arguments[..index].iter().any(|(earlier, _)| earlier == key) {
                invalid!("`{}`: `{key}` is given twice; give it once", self.name);
            }
        }
        Ok(self)
    }

    /// The keys that are given.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.arguments.iter().map(|(key, _)| *key).filter(|key| !key.is_empty())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        debug_assert!(self.keys.contains(&key), "{key}");
        self.arguments.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    /// A whole number, `default` where none is given or where it is `none` or `null`.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T> {
        match self.get(key) {
            None | Some("none" | "null" | "None") => Ok(default),
            Some(text) if text.starts_with('+') => Err(self.bad(key, text, "a whole number without a sign")),
            Some(text) => text.parse().map_err(|_| self.bad(key, text, "a whole number in range")),
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some("true" | "True") => Ok(true),
            Some("false" | "False") => Ok(false),
            Some(other) => Err(self.bad(key, other, "true or false")),
        }
    }

    /// One of several words.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> Result<T> {
        let Some(text) = self.get(key) else { return Ok(default) };
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| self.bad(key, text, &names.join(" or ")))
    }

    /// `[1,16]`, or a single number.
    pub(crate) fn list(&self, key: &str) -> Result<Option<Vec<i32>>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let want = || self.bad(key, text, "a list such as [1,16]");
        let inside = match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(want)?,
            None => text,
        };
        let numbers: Option<Vec<i32>> = inside.split(',').map(|number| number.trim().parse().ok()).collect();
        numbers.filter(|list| list.len() <= 3).map(Some).ok_or_else(want)
    }

    pub(crate) fn bad(&self, key: &str, got: &str, want: &str) -> Error {
        Error::Invalid(format!("`{}`: {key} = `{got}`: want {want}", self.name))
    }
}

/// Splits at commas outside brackets; `None` where brackets do not balance.
fn split_list(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => return None,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 {
        return None;
    }
    // `name()` is `name`.
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    Some(parts)
}
