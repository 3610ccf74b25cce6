//! Numbers and names as people read them, and the escaping of both.

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

/// Text for XML and HTML, elements and attributes alike. Characters that XML cannot hold become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' => escaped += "&#10;",
            '\t' => escaped += "&#9;",
            '\r' => escaped += "&#13;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Four significant digits.
pub(super) fn number(value: f64) -> String {
    significant(value, 4)
}

/// So many significant digits, without trailing zeros.
pub(super) fn significant(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    match value.abs() {
        0.0 => "0".to_owned(),
        1e-4..1e7 => {
            let decimals = (digits - 1 - value.abs().log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
        }
        _ => format!("{value:.*e}", (digits - 2).max(0) as usize),
    }
}

/// Number or dash.
pub(super) fn optional(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| NONE.to_owned(), show)
}

/// `3.21 MiB`.
pub(super) fn bytes(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let (factor, unit) = byte_unit(value);
    format!("{} {unit}", number(value / factor))
}

/// The unit in which a number of bytes is between 1 and 1024.
pub(super) fn byte_unit(value: f64) -> (f64, &'static str) {
    const UNITS: [(f64, &str); 4] =
        [(1024.0 * 1024.0 * 1024.0, "GiB"), (1024.0 * 1024.0, "MiB"), (1024.0, "KiB"), (1.0, "B")];
    UNITS.into_iter().find(|unit| value >= unit.0).unwrap_or((1.0, "B"))
}

/// `12.3 ms`.
pub(super) fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value >= 120.0 {
        let whole = value.round() as u64;
        let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
        return if hours > 0 {
            format!("{hours} h {minutes} min")
        } else {
            format!("{minutes} min {rest} s")
        };
    }
    let (factor, unit) = second_unit(value);
    format!("{} {unit}", significant(value / factor, 3))
}

/// The unit in which a time is between 1 and 1000.
pub(super) fn second_unit(value: f64) -> (f64, &'static str) {
    match value {
        v if v >= 1.0 || v <= 0.0 => (1.0, "s"),
        v if v >= 1e-3 => (1e-3, "ms"),
        _ => (1e-6, "µs"),
    }
}

/// A share as `93.1 %`.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { NONE.to_owned() }
}

/// How much less (or more) `value` is than `reference`: `−38 %`.
pub(super) fn change(value: f64, reference: f64) -> String {
    let ratio = value / reference;
    if !ratio.is_finite() {
        return NONE.to_owned();
    }
    let percent = ((ratio - 1.0) * 100.0).abs();
    let sign = match ratio {
        _ if percent < 0.05 => "±",
        ratio if ratio < 1.0 => "−",
        _ => "+",
    };
    match percent {
        0.0..10.0 => format!("{sign}{percent:.1} %"),
        10.0..1000.0 => format!("{sign}{percent:.0} %"),
        1000.0..1e6 => format!("× {}", significant(ratio, 3)),
        _ => format!("× {ratio:.1e}"),
    }
}

/// At most `longest` characters; the middle of a longer text is left out.
pub(super) fn shortened(text: &str, longest: usize) -> String {
    let count = text.chars().count();
    if count <= longest {
        return text.to_owned();
    }
    let head: String = text.chars().take(longest / 2).collect();
    let tail: String = text.chars().skip(count + longest / 2 + 1 - longest).collect();
    format!("{head}…{tail}")
}

/// The dotted beginning that all names share, e.g. `model.layers.`; empty for a single name.
pub(super) fn common_prefix<'a>(names: &[&'a str]) -> &'a str {
    let Some((first, rest)) = names.split_first().filter(|(_, rest)| !rest.is_empty()) else { return "" };
    let ends = first.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| at + 1);
    let shared = ends.take_while(|&end| rest.iter().all(|name| name.starts_with(&first[..end])));
    shared.last().map_or("", |end| &first[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_nan() {
        for (value, want) in [
            (0.0, "0"),
            (-0.5, "-0.5"),
            (2.71432, "2.714"),
            (0.000_123_456, "0.0001235"),
            (123_456.0, "123456"),
            (1.5e-7, "1.50e-7"),
            (f64::NAN, NONE),
            (f64::NEG_INFINITY, NONE),
        ] {
            assert_eq!(number(value), want);
        }
        assert_eq!(bytes(3.5 * 1024.0 * 1024.0), "3.5 MiB");
        assert_eq!(bytes(12.0), "12 B");
        assert_eq!(seconds(0.0123), "12.3 ms");
        assert_eq!(seconds(0.0), "0 s");
        assert_eq!(seconds(7384.0), "2 h 3 min");
        assert_eq!(seconds(125.0), "2 min 5 s");
        assert_eq!(change(0.62, 1.0), "−38 %");
        assert_eq!(change(1.0, 0.0), NONE);
        assert_eq!(change(1.0, 1.0), "±0.0 %");
    }

    #[test]
    fn texts() {
        assert_eq!(escape("<a & 'b'>\u{1}\n"), "&lt;a &amp; &#39;b&#39;&gt;\u{fffd}&#10;");
        assert_eq!(shortened("abcdefghij", 5), "ab…ij");
        assert_eq!(shortened("abcdefghij", 6), "abc…ij");
        assert_eq!(shortened("abc", 5), "abc");
        assert_eq!(common_prefix(&["model.layers.0.q", "model.layers.11.q"]), "model.layers.");
        assert_eq!(common_prefix(&["model.a", "x"]), "");
        assert_eq!(common_prefix(&["model.a"]), "");
    }
}
