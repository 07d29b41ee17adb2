//! One NDJSON line: is it a JSON object, and where are the wanted fields?
//!
//! The whole line is checked, but only the wanted top-level fields are looked
//! at; all others are skipped without building anything.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Fields, Pick, Trouble, check_length, key_trouble, number_trouble, shorten};
use crate::number::Number;

/// Finds the wanted fields of lines. Keeps its buffer from line to line.
pub(super) struct Picker {
    pick: Pick,
    /// A key whose text had escapes in it.
    unescaped: String,
}

impl Picker {
    pub(super) fn new(pick: Pick) -> Self {
        Self { pick, unescaped: String::new() }
    }

    /// The key and the value of `line`, or why it has none.
    pub(super) fn pick<'a>(&'a mut self, line: &'a [u8]) -> Result<Fields<'a>, Trouble> {
        // Checked first and at once: faster than serde_json's check string by
        // string, and it covers the skipped strings too.
        let text = std::str::from_utf8(line)
            .map_err(|error| Trouble(format!("not UTF-8 at byte {} of the line", error.valid_up_to() + 1)))?;
        let mut json = serde_json::Deserializer::from_str(text);
        let found = json
            .deserialize_map(Wanted(&self.pick))
            .and_then(|found| json.end().map(|()| found))
            .map_err(|error| not_an_object(text, &error))?;

        let key = match &self.pick.key {
            None => check_length(line, None)?,
            Some(name) => key_text(name, found.key, &mut self.unescaped)?,
        };
        let value = match &self.pick.number {
            Some(name) => number_text(name, found.number)?,
            None if self.pick.whole => line,
            None => b"",
        };
        Ok(Fields { key, value })
    }
}

fn not_an_object(text: &str, error: &serde_json::Error) -> Trouble {
    if text.trim_start().starts_with('{') {
        // The line of the message would always be 1: say the column alone.
        let message = error.to_string();
        let what = message.split(" at line ").next().unwrap_or(&message);
        Trouble(format!("not valid JSON: {what} at column {}", error.column()))
    } else {
        Trouble("not a JSON object".to_owned())
    }
}

/// The text of a key: a string's content, a number or boolean as written.
fn key_text<'a>(name: &str, raw: Option<&'a str>, unescaped: &'a mut String) -> Result<&'a [u8], Trouble> {
    let raw = raw.ok_or_else(|| key_trouble(name, "absent"))?;
    let text = match raw.as_bytes().first() {
        Some(b'n') => return Err(key_trouble(name, "null")),
        Some(b'{') => return Err(key_trouble(name, "an object")),
        Some(b'[') => return Err(key_trouble(name, "an array")),
        Some(b'"') => {
            string_text(raw, unescaped).ok_or_else(|| key_trouble(name, "no text: half of a surrogate pair"))?
        }
        _ => raw,
    };
    if text.is_empty() {
        return Err(key_trouble(name, "empty"));
    }
    check_length(text.as_bytes(), Some(name))
}

fn number_text<'a>(name: &str, raw: Option<&'a str>) -> Result<&'a [u8], Trouble> {
    let raw = raw.ok_or_else(|| number_trouble(name, "absent"))?;
    // A string with escapes in it is not unescaped: no number needs any.
    let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw).trim_ascii();
    match Number::parse(text.as_bytes()) {
        Some(_) => Ok(text.as_bytes()),
        None => Err(number_trouble(name, &format!("not a finite number: {}", shorten(raw)))),
    }
}

/// The content of a JSON string, which `raw` is known to be. `None` if it can't
/// be unescaped: a lone surrogate passes where strings are only skipped.
fn string_text<'a>(raw: &'a str, unescaped: &'a mut String) -> Option<&'a str> {
    let inside = &raw[1..raw.len() - 1];
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Some(inside);
    }
    unescaped.clear();
    serde_json::Deserializer::from_str(raw).deserialize_str(AppendTo(unescaped)).ok()?;
    Some(unescaped)
}

/// What a line holds under the wanted names, as raw JSON.
#[derive(Default)]
struct Found<'de> {
    key: Option<&'de str>,
    number: Option<&'de str>,
}

/// Walks the object's fields and keeps the wanted ones.
struct Wanted<'p>(&'p Pick);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut found = Found::default();
        while let Some(name) = map.next_key_seed(Name(self.0))? {
            if !name.key && !name.number {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            // A name that comes twice: the last one counts, as in most readers.
            let raw = map.next_value::<&'de RawValue>()?.get();
            if name.key {
                found.key = Some(raw);
            }
            if name.number {
                found.number = Some(raw);
            }
        }
        Ok(found)
    }
}

/// Which wanted fields a name is.
struct Is {
    key: bool,
    number: bool,
}

/// Compares a field's name (unescaped) without keeping it.
struct Name<'p>(&'p Pick);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Is;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Is, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Is;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Is, E> {
        let is = |wanted: &Option<String>| wanted.as_deref() == Some(name);
        Ok(Is { key: is(&self.0.key), number: is(&self.0.number) })
    }
}

/// Appends a JSON string's content to a buffer.
struct AppendTo<'b>(&'b mut String);

impl Visitor<'_> for AppendTo<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}
