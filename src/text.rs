//! Text of others, made fit to be shown: it stands for itself, and moves neither a cursor nor what is around it.
//!
//! JSON of others is filtered before it is parsed ([`from_json`]), files of a host where they are read ([`kept`]), and whatever is
//! printed once more ([`lines`], [`in_json`]), so that nothing depends on each string having been thought of.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::DeserializeOwned;

/// Whether a character does something to a terminal, to lines or to the direction of writing, or is not seen: C0 and C1 (ECMA-48), and what
/// Unicode has for direction (UAX #9), for separating lines, and for what has no width.
fn is_hidden(letter: char) -> bool {
    matches!(letter,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What stands for it instead.
fn name(letter: char) -> String {
    match letter {
        '\n' => r"\n".to_owned(),
        '\r' => r"\r".to_owned(),
        letter if u32::from(letter) < 0x100 => format!(r"\x{:02x}", u32::from(letter)),
        letter => format!(r"\u{{{:x}}}", u32::from(letter)),
    }
}

/// The text with each hidden character named, but for those of `but`.
fn named<'a>(text: &'a str, but: &[char]) -> Cow<'a, str> {
    let is_named = |letter: char| is_hidden(letter) && !but.contains(&letter);
    if !text.chars().any(is_named) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_named(letter) { out += &name(letter) } else { out.push(letter) }
    }
    Cow::Owned(out)
}

/// One line of text.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    named(text, &['\t'])
}

/// Lines of text.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    named(text, &['\t', '\n'])
}

/// Text of a file with what keeps its fields and lines apart.
pub(crate) fn kept(text: String) -> String {
    match named(&text, &['\t', '\n', '\r', '\0']) {
        Cow::Owned(named) => named,
        Cow::Borrowed(_) => text,
    }
}

/// Lines of text with colours of our own: `\x1b[`, digits and `;`, and `m` (ECMA-48, select graphic rendition).
pub(crate) fn painted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let code = &rest[at + 2..];
        let length = code.find(|letter: char| !letter.is_ascii_digit() && letter != ';').unwrap_or(code.len());
        let is_paint = code[length..].starts_with('m');
        let end = at + 2 + if is_paint { length + 1 } else { 0 };
        out += &lines(&rest[..at]);
        if is_paint {
            out += &rest[at..end]
        } else {
            out += &lines(&rest[at..end])
        }
        rest = &rest[end..];
    }
    out + &lines(rest)
}

/// The text of a JSON document, in which hidden characters stand in strings alone, with each as an escape sequence: the same document.
pub(crate) fn in_json(text: String) -> String {
    let is_escaped = |letter: char| is_hidden(letter) && !matches!(letter, '\n' | '\r' | '\t');
    if !text.chars().any(is_escaped) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_escaped(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(letter);
        }
    }
    out
}

/// A JSON document of others, each hidden character in its strings named, ends of lines as well.
///
/// # Errors
/// It is no JSON, or not of this type.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&filtered(text))
}

/// The document without hidden characters in strings, written raw or as escape sequences (RFC 8259, section 7).
fn filtered(bytes: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'[' | b']'..=b'~' | b'\n' | b'\r' | b'\t');
    // What is no text is no JSON either, and the parser says where.
    let Some(text) = (!bytes.iter().all(is_plain)).then(|| std::str::from_utf8(bytes).ok()).flatten() else { return Cow::Borrowed(bytes) };
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let (said, length) = if letter == '\\' { escape(rest) } else { (Some(letter), letter.len_utf8()) };
        match said {
            Some(said) if is_hidden(said) && (letter == '\\' || !matches!(said, '\n' | '\r' | '\t')) => {
                // The name begins with a backslash, which is one in a string of JSON when it is doubled.
                out += &name(said).replace('\\', r"\\");
            }
            _ => out += &rest[..length],
        }
        rest = &rest[length..];
    }
    Cow::Owned(out.into_bytes())
}

/// The character that an escape sequence at the beginning stands for, if it may be a hidden one, and the sequence's length in bytes.
fn escape(text: &str) -> (Option<char>, usize) {
    let unit = |text: &str| text.strip_prefix("\\u").and_then(|digits| u16::from_str_radix(digits.get(..4)?, 16).ok());
    match text.as_bytes().get(1) {
        Some(b'n') => (Some('\n'), 2),
        Some(b'r') => (Some('\r'), 2),
        Some(b'b') => (Some('\x08'), 2),
        Some(b'f') => (Some('\x0c'), 2),
        Some(b'u') => match (unit(text), text.get(6..).and_then(unit)) {
            (Some(first), second) => match char::decode_utf16(std::iter::once(first).chain(second)).next() {
                Some(Ok(letter)) => (Some(letter), 6 * letter.len_utf16()),
                _ => (None, 6),
            },
            (None, _) => (None, 2),
        },
        Some(other) if other.is_ascii() => (None, 2),
        _ => (None, 1),
    }
}

/// One word of a command, as a shell takes it: names of files, units and interfaces hold what a shell would run.
pub(crate) fn word(text: &str) -> String {
    // Lists and settings, which no shell reads as anything else where an argument stands, are readable without quotes.
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._:,/=+@%-".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    // No command can hold a NUL.
    shlex::try_quote(&line(&text.replace('\0', ""))).map_or_else(|_| String::new(), |word| word.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const HOSTILE: &str = "a\x1b[31mb\u{9b}2Jc\u{202e}d\ne\rf\tg\0h\u{e0041}i\u{2028}j\x7fk";

    #[test]
    fn what_is_hidden_is_named() {
        assert_eq!(line(HOSTILE), "a\\x1b[31mb\\x9b2Jc\\u{202e}d\\ne\\rf\tg\\x00h\\u{e0041}i\\u{2028}j\\x7fk");
        assert_eq!(lines("a\nb\x07"), "a\nb\\x07");
        assert_eq!(kept("a\nb\0c\r\x1b".to_owned()), "a\nb\0c\r\\x1b");
        for plain in ["", "mlx5_0", "Grüße, 日本, µs, \u{fffd}"] {
            assert!(matches!(lines(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    #[test]
    fn a_word_is_one_to_a_shell() {
        for plain in ["mlx5_0", "/etc/x.conf", "a=1,b=2", "0000:3b:00.0", "nccl@2.27", "fe80::1%eth0", "-x"] {
            assert_eq!(word(plain), plain);
        }
        for (text, quoted) in [("", "''"), ("a b", "'a b'"), ("$(id)", "'$(id)'"), ("a;b", "'a;b'"), ("~", "'~'"), ("a\0b", "ab")] {
            assert_eq!(word(text), quoted);
        }
        assert_eq!(shlex::split(&word("a\n'\\b")), Some(vec!["a\\n'\\b".to_owned()]));
    }

    #[test]
    fn colours_stay_and_nothing_else_does() {
        assert_eq!(
            painted("\x1b[1;31mbad\x1b[0m\n\x1b[2J\x1b]0;title\x07\x1b[31"),
            "\x1b[1;31mbad\x1b[0m\n\\x1b[2J\\x1b]0;title\\x07\\x1b[31"
        );
    }

    #[test]
    fn what_is_escaped_in_a_document_is_named_too() {
        let text = r#"{"a":"\u001b[2J \u009B \ud83d\ude00 \udb40\udc41 \n \\n \\u001b \" \b \ud800","b\r":["\t"]}"#;
        let text = text.replace(r"\ud800", "");
        let read: Value = from_json(text.as_bytes()).unwrap();
        assert_eq!(read["a"], "\\x1b[2J \\x9b \u{1f600} \\u{e0041} \\n \\n \\u001b \" \\x08 ");
        assert_eq!(read["b\\r"][0], "\t");
        for broken in ["\"\\", "\"\\u12", "\"\\u12é4\"", "\"\\é\"", "\"\\ud800\\u0041\""] {
            assert!(from_json::<Value>(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    fn of_value(value: &mut Value) {
        match value {
            Value::String(text) => *text = line(text).into_owned(),
            Value::Array(all) => all.iter_mut().for_each(of_value),
            Value::Object(all) => {
                *all = std::mem::take(all)
                    .into_iter()
                    .map(|(key, mut value)| {
                        of_value(&mut value);
                        (line(&key).into_owned(), value)
                    })
                    .collect();
            }
            _ => {}
        }
    }

    fn strings() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            any::<char>(),
            Just('\\'),
            Just('"'),
            Just('\n'),
            Just('u'),
            (0_u32..0x2100).prop_map(|code| char::from_u32(code).unwrap_or(' '))
        ];
        proptest::collection::vec(letter, 0..12).prop_map(|letters| letters.into_iter().collect())
    }

    proptest! {
        /// Whether a writer escapes characters or leaves them as they are, what is read is the same: each string without hidden characters.
        #[test]
        fn a_document_is_read_without_hidden_characters(texts in proptest::collection::btree_map(strings(), strings(), 0..6), ascii: bool) {
            let mut value = serde_json::to_value(&texts).unwrap();
            let mut text = serde_json::to_string(&value).unwrap();
            if ascii {
                text = text.chars().map(|letter| if letter.is_ascii() { letter.to_string() } else {
                    letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }).collect();
            }
            of_value(&mut value);
            prop_assert_eq!(from_json::<Value>(text.as_bytes()).unwrap(), value);
        }

        #[test]
        fn a_document_that_is_written_is_the_same_and_shows_nothing_hidden(text in strings()) {
            let value = Value::String(text);
            let written = in_json(serde_json::to_string(&value).unwrap());
            prop_assert!(!written.chars().any(is_hidden), "{:?}", written);
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }

        #[test]
        fn nothing_that_is_shown_is_hidden(text in strings()) {
            prop_assert!(!line(&text).chars().any(|letter| is_hidden(letter) && letter != '\t'));
            prop_assert!(!painted(&text).replace("\x1b[", "").chars().any(|letter| is_hidden(letter) && !matches!(letter, '\t' | '\n')));
        }

        #[test]
        fn what_is_no_document_is_no_document_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = from_json::<Value>(&bytes);
        }
    }
}
