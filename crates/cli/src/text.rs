//! How keys and values look to people and to programs.
//!
//! Text is UTF-8 without control characters; it prints as it is. All other
//! bytes print as `base64:…`. A text that begins with `base64:` itself prints
//! in base64 too, so what is printed always says which bytes were meant, and
//! [`parse`] turns it back.

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

const MARK: &str = "base64:";

/// The printed form of a key or value.
pub(crate) fn print(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(MARK) && !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(format!("{MARK}{}", STANDARD.encode(bytes))),
    }
}

/// The bytes that a printed form (or a key on the command line) means.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix(MARK) {
        None => Ok(text.as_bytes().to_vec()),
        Some(code) => STANDARD.decode(code).map_err(|error| format!("what follows `{MARK}` is not base64 ({error})")),
    }
}

/// Appends the bytes as a JSON string of their printed form.
pub(crate) fn json_string(out: &mut Vec<u8>, bytes: &[u8]) {
    serde_json::to_writer(&mut *out, &*print(bytes)).expect("a string always becomes JSON");
}

/// Appends a value to JSON output: as it is when it is itself the JSON text of
/// a number or an object, and as a string otherwise.
pub(crate) fn json_value(out: &mut Vec<u8>, bytes: &[u8]) {
    let Some(text) = own_json(bytes) else {
        return json_string(out, bytes);
    };
    // One value is one line. A newline in valid JSON is always white space
    // between tokens, never part of a string.
    out.extend(text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
}

/// The value's own JSON text, digits and all, if it is a number or an object.
fn own_json(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?.trim_matches([' ', '\t', '\n', '\r']);
    if !text.starts_with(|c: char| c == '{' || c == '-' || c.is_ascii_digit()) {
        return None;
    }
    serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
}

/// Appends `{"key":…,"value":…,"core":n}`, without a newline.
pub(crate) fn json_entry(out: &mut Vec<u8>, key: &[u8], value: &[u8], core: u64) {
    out.extend_from_slice(b"{\"key\":");
    json_string(out, key);
    out.extend_from_slice(b",\"value\":");
    json_value(out, value);
    write!(out, ",\"core\":{core}}}").expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: &[u8], value: &[u8]) -> String {
        let mut out = Vec::new();
        json_entry(&mut out, key, value, 3);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_prints_as_it_is_and_bytes_in_base64() {
        assert_eq!(print(b"N14228"), "N14228");
        assert_eq!(print("Zürich ✈".as_bytes()), "Zürich ✈");
        assert_eq!(print(b""), "");
        assert_eq!(print(b"a\nb"), "base64:YQpi");
        assert_eq!(print(b"\xff\x00"), "base64:/wA=");
        assert_eq!(print("\u{85}".as_bytes()), "base64:woU=");
        assert_eq!(print(b"base64:YQ=="), "base64:YmFzZTY0OllRPT0=");
    }

    #[test]
    fn bad_base64_is_an_error() {
        assert!(parse("base64:?").unwrap_err().contains("not base64"));
        assert_eq!(parse("a b").unwrap(), b"a b");
    }

    #[test]
    fn json_values_stay_json() {
        assert_eq!(entry(b"k", b"12345678901234567890123"), r#"{"key":"k","value":12345678901234567890123,"core":3}"#);
        assert_eq!(entry(b"k", b"{\"a\": 1.0}"), r#"{"key":"k","value":{"a": 1.0},"core":3}"#);
        assert_eq!(entry(b"k", b"{\"a\":\n1}\r\n"), "{\"key\":\"k\",\"value\":{\"a\": 1},\"core\":3}");
    }

    #[test]
    fn other_values_are_strings() {
        for (value, printed) in [
            (&b"007"[..], r#""007""#),
            (b"text", r#""text""#),
            (b"{\"a\":1", r#""{\"a\":1""#),
            (b"{} {}", r#""{} {}""#),
            (b"[1]", r#""[1]""#),
            (b"null", r#""null""#),
            (b"", r#""""#),
            (b"{\"a\":\"\xff\"}", r#""base64:eyJhIjoi/yJ9""#),
        ] {
            assert_eq!(entry(b"k\"", value), format!(r#"{{"key":"k\"","value":{printed},"core":3}}"#));
        }
    }

    proptest! {
        #[test]
        fn printed_forms_mean_the_same_bytes(bytes: Vec<u8>, text in ".*") {
            prop_assert_eq!(parse(&print(&bytes)).unwrap(), bytes);
            prop_assert_eq!(parse(&print(text.as_bytes())).unwrap(), text.as_bytes());
        }

        #[test]
        fn an_entry_is_one_line_of_json(key: Vec<u8>, value: Vec<u8>) {
            let line = entry(&key, &value);
            prop_assert!(!line.contains('\n'));
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(parse(parsed["key"].as_str().unwrap()).unwrap(), key);
            prop_assert_eq!(&parsed["core"], 3);
        }
    }
}
