//! The rules of NDJSON.

use super::*;

fn keyed(data: &str) -> Vec<Seen> {
    read(data.as_bytes(), &options(Format::Ndjson, Some("k"), None))
}

fn one(line: &str) -> Seen {
    let mut all = keyed(line);
    assert_eq!(all.len(), 1, "{line}: {all:?}");
    all.remove(0)
}

#[test]
fn lines_end_with_lf_crlf_or_the_input_and_blank_ones_do_not_count() {
    let all = keyed("{\"k\":1}\r\n\n  \r\n{\"k\":2}\n{\"k\":3}");
    let seen: Vec<_> = all.iter().map(|seen| (seen.key(), seen.value(), seen.start, seen.end)).collect();
    assert_eq!(seen, [("1", "{\"k\":1}", 0, 9), ("2", "{\"k\":2}", 14, 22), ("3", "{\"k\":3}", 22, 29)]);
    assert!(keyed("").is_empty());
    assert!(keyed("\n\n").is_empty());
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert_eq!(one("\u{feff}{\"k\":1}\n").start, 3);
    assert_eq!(keyed("{\"k\":1}\n\u{feff}{\"k\":1}\n")[1].reason(), "not a JSON object");
    let half = read(b"\xef\xbb", &options(Format::Ndjson, Some("k"), None));
    assert!(half[0].reason().contains("not UTF-8"), "{half:?}");
}

#[test]
fn a_key_is_a_string_s_text_or_a_scalar_as_written() {
    for (value, key) in [
        ("\"abc\"", "abc"),
        (r#""a\"\u00e9\n\\""#, "a\"é\n\\"),
        (r#""\ud83d\ude00""#, "😀"),
        ("\" \"", " "),
        ("1.50", "1.50"),
        ("-0", "-0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1e999", "1e999"),
        (" true ", "true"),
        ("false", "false"),
    ] {
        assert_eq!(one(&format!("{{\"a\":[{{\"k\":0}}],\"k\":{value},\"z\":null}}")).key(), key);
    }
    assert_eq!(one(r#"{"\u006b":"escaped name"}"#).key(), "escaped name");
    assert_eq!(one(r#"{"k":1,"k":2}"#).key(), "2");
}

#[test]
fn a_record_without_a_usable_key_is_rejected() {
    for (line, reason) in [
        (r#"{"a":1}"#, "key field `k` is absent"),
        (r#"{"a":{"k":1}}"#, "key field `k` is absent"),
        (r#"{"k":null}"#, "key field `k` is null"),
        (r#"{"k":""}"#, "key field `k` is empty"),
        (r#"{"k":{}}"#, "key field `k` is an object"),
        (r#"{"k":[1]}"#, "key field `k` is an array"),
        (r#"{"k":"\ud800 "}"#, "key field `k` is no text: half of a surrogate pair"),
    ] {
        let seen = one(line);
        assert_eq!(seen.reason(), reason);
        assert_eq!(seen.raw(), line.as_bytes());
    }
}

#[test]
fn what_is_no_json_object_is_rejected() {
    for (line, reason) in [
        ("x", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("\"k\"", "not a JSON object"),
        ("17", "not a JSON object"),
        (r#"{"k":1"#, "not valid JSON"),
        (r#"{"k":1} {"k":2}"#, "not valid JSON: trailing characters at column 9"),
        (r#"{"k":1,"a":01}"#, "not valid JSON"),
        (r#"{"k":1,"a":tru}"#, "not valid JSON"),
        ("{\"k\":1,\"a\":\"\t\"}", "not valid JSON"),
        (r#"{"k":1,}"#, "not valid JSON"),
        (r#"{"k":1,"a":[}"#, "not valid JSON"),
    ] {
        let seen = one(line);
        assert!(seen.reason().starts_with(reason), "{line}: {}", seen.reason());
    }
    let seen = read(b"{\"k\":1,\"a\":\"\xff\"}\n{\"k\":1}\n", &options(Format::Ndjson, Some("k"), None));
    assert_eq!(seen[0].reason(), "not UTF-8 at byte 13 of the line");
    assert_eq!(seen[0].raw(), b"{\"k\":1,\"a\":\"\xff\"}");
    assert_eq!(seen[1].key(), "1");
}

#[test]
fn nesting_has_no_limit_that_could_be_overrun() {
    let deep = format!("{{\"k\":1,\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(read_whole(deep.as_bytes())[0].key(), "1");
}

fn read_whole(data: &[u8]) -> Vec<Seen> {
    let options = options(Format::Ndjson, Some("k"), None);
    drain(&mut Source::from_stream(pieces(data, usize::MAX), "test", None, &options).unwrap()).unwrap()
}

#[test]
fn without_a_key_the_record_is_its_own() {
    let all = read(b"{\"a\": 1}\r\n", &options(Format::Ndjson, None, None));
    assert_eq!((all[0].key(), all[0].value()), ("{\"a\": 1}", "{\"a\": 1}"));
}

#[test]
fn overlong_keys_are_rejected() {
    let fits = format!("{{\"k\":\"{}\"}}\n", "x".repeat(MAX_KEY));
    let over = format!("{{\"k\":\"{}\"}}\n", "x".repeat(MAX_KEY + 1));
    assert_eq!(read_whole(fits.as_bytes())[0].key().len(), MAX_KEY);
    assert_eq!(read_whole(over.as_bytes())[0].reason(), "key field `k` has 65536 bytes, more than 65535");
    let own = options(Format::Ndjson, None, None);
    let seen =
        drain(&mut Source::from_stream(pieces(fits.as_bytes(), usize::MAX), "test", None, &own).unwrap()).unwrap();
    assert!(seen[0].reason().contains("name a field with --key"), "{seen:?}");
}

#[test]
fn numbers_are_numbers_or_strings_that_hold_one() {
    let options = options(Format::Ndjson, Some("k"), Some("n"));
    let value = |raw: &str| read(format!("{{\"k\":1,\"n\":{raw}}}").as_bytes(), &options).remove(0);
    assert_eq!(value("12").value(), "12");
    assert_eq!(value("-1.5e3").value(), "-1.5e3");
    assert_eq!(value("\" 7 \"").value(), "7");
    for (raw, reason) in [
        ("\"NA\"", "field `n` is not a finite number: \"NA\""),
        ("\"\"", "field `n` is not a finite number: \"\""),
        ("null", "field `n` is not a finite number: null"),
        ("true", "field `n` is not a finite number: true"),
        ("1e999", "field `n` is not a finite number: 1e999"),
        ("[1]", "field `n` is not a finite number: [1]"),
    ] {
        assert_eq!(value(raw).reason(), reason);
    }
    assert_eq!(read(b"{\"k\":1}", &options)[0].reason(), "field `n` is absent");
}

#[test]
fn one_field_may_be_key_and_number() {
    let seen = read(b"{\"n\":12}", &options(Format::Ndjson, Some("n"), Some("n")));
    assert_eq!((seen[0].key(), seen[0].value()), ("12", "12"));
}

#[test]
fn an_overlong_line_is_rejected_alone_and_only_its_beginning_kept() {
    let mut options = options(Format::Ndjson, Some("k"), None);
    options.limit = 20;
    let fits = format!("{{\"k\":1{}}}\n", " ".repeat(13));
    let data = format!("{fits}{{\"k\":1{}}}\n{{\"k\":2}}\n{}", " ".repeat(14), "y".repeat(50));
    let seen = read(data.as_bytes(), &options);
    assert_eq!(seen[0].key(), "1");
    assert_eq!((seen[1].start, seen[1].end), (21, 43));
    assert_eq!(seen[1].reason(), "longer than 20 bytes");
    assert_eq!(seen[1].raw(), &data.as_bytes()[21..41]);
    assert_eq!(seen[2].key(), "2");
    assert_eq!((seen[3].start, seen[3].end), (51, 101));
    assert_eq!(seen.len(), 4);
}

#[test]
fn an_endless_line_is_never_held_whole() {
    let input = io::repeat(b'x').take(3 * MAX_RECORD as u64).chain(io::Cursor::new(b"\n{\"k\":1}\n".to_vec()));
    let mut source =
        Source::from_stream(Box::new(input), "test", None, &options(Format::Ndjson, Some("k"), None)).unwrap();
    let seen = drain(&mut source).unwrap();
    assert_eq!(seen[0].raw().len(), 1024);
    assert_eq!(seen[0].end, 3 * MAX_RECORD as u64 + 1);
    assert_eq!(seen[1].key(), "1");
    assert_eq!(seen.len(), 2);
}
