//! The rules of CSV.

use super::*;

fn keyed(data: &str) -> Vec<Seen> {
    read(data.as_bytes(), &options(Format::Csv, Some("k"), None))
}

fn refused(data: &[u8], key: &str) -> Failure {
    match Source::from_stream(pieces(data, usize::MAX), "f.csv", None, &options(Format::Csv, Some(key), None)) {
        Ok(_) => panic!("taken"),
        Err(failure) => failure,
    }
}

#[test]
fn records_become_json_with_the_header_s_names() {
    let all = keyed("k,b c,\"d\"\"\"\nx,1,\ny,\"a, \"\"b\"\"\nc\",NA\n");
    assert_eq!(all[0].key(), "x");
    assert_eq!(all[0].value(), r#"{"k":"x","b c":"1","d\"":""}"#);
    assert_eq!(all[1].value(), r#"{"k":"y","b c":"a, \"b\"\nc","d\"":"NA"}"#);
    assert_eq!(all.len(), 2);
}

#[test]
fn records_end_with_lf_crlf_cr_or_the_input() {
    let all = keyed("k\r\na\r\n\r\n\nb\rc\n\nd");
    let seen: Vec<_> = all.iter().map(|seen| (seen.key(), seen.start, seen.end)).collect();
    assert_eq!(seen, [("a", 3, 6), ("b", 9, 11), ("c", 11, 13), ("d", 14, 15)]);
}

#[test]
fn an_input_without_records_is_empty() {
    for data in ["", "\n", "k\n", "k", "\u{feff}k,b\r\n\r\n"] {
        assert!(keyed(data).is_empty(), "{data:?}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    assert_eq!(keyed("\u{feff}k\na\n")[0].key(), "a");
    assert_eq!(keyed("k\n\u{feff}a\n")[0].key(), "\u{feff}a");
}

#[test]
fn a_wrong_field_count_is_rejected_and_reading_goes_on() {
    let all = keyed("k,b\nx\ny,1,2\nz,\"3\"\r\n");
    assert_eq!(all[0].reason(), "1 fields where the header has 2");
    assert_eq!(all[0].raw(), b"x");
    assert_eq!(all[1].reason(), "3 fields where the header has 2");
    assert_eq!((all[2].key(), all[2].end), ("z", 19));
}

#[test]
fn keys_and_numbers_are_checked() {
    let options = options(Format::Csv, Some("k"), Some("n"));
    let all = read(b"k,n\na, 5 \nb,NA\n,1\nc,\nd,1e999\ne,\"2.5\"\n", &options);
    assert_eq!((all[0].key(), all[0].value()), ("a", "5"));
    assert_eq!(all[1].reason(), "field `n` is not a finite number: \"NA\"");
    assert_eq!(all[2].reason(), "key field `k` is empty");
    assert_eq!(all[3].reason(), "field `n` is not a finite number: \"\"");
    assert_eq!(all[4].reason(), "field `n` is not a finite number: \"1e999\"");
    assert_eq!(all[5].value(), "2.5");
}

#[test]
fn without_a_key_the_json_form_is_the_key() {
    let all = read(b"a,b\n1,2\n", &options(Format::Csv, None, Some("b")));
    assert_eq!((all[0].key(), all[0].value()), (r#"{"a":"1","b":"2"}"#, "2"));
}

#[test]
fn bytes_that_are_no_text_are_rejected() {
    // The second record is UTF-8 only if its fields are glued together.
    let all = read(b"k,b\nx,\xff\n\xc3,\xa9\nz,1\n", &options(Format::Csv, Some("k"), None));
    assert_eq!(all[0].reason(), "not UTF-8");
    assert_eq!(all[1].reason(), "not UTF-8");
    assert_eq!(all[1].raw(), b"\xc3,\xa9");
    assert_eq!(all[2].key(), "z");
}

#[test]
fn a_quote_never_closed_costs_its_line_only() {
    let all = keyed("k,b\n1,\"x\n2,y\n3,z\n");
    assert!(all[0].reason().contains("quoted field does not end"), "{all:?}");
    assert_eq!(all[0].raw(), b"1,\"x");
    assert_eq!([all[1].key(), all[2].key()], ["2", "3"]);
    let all = keyed("k,b\n1,\"x");
    assert_eq!((all[0].raw(), all[0].end), (&b"1,\"x"[..], 8));
}

#[test]
fn an_overlong_record_costs_its_first_line_only() {
    let mut options = options(Format::Csv, Some("k"), None);
    options.limit = 20;
    let data = format!("k,b\na,\"{}\"\nb,\"1\n{}\nc,3\n{}\nd,4\n", "x".repeat(15), "2".repeat(18), "4".repeat(21));
    let all = read(data.as_bytes(), &options);
    // `a` with its newline has 20 bytes.
    assert_eq!(all[0].key(), "a");
    assert!(all[1].reason().contains("within 20 bytes"), "{all:?}");
    assert_eq!(all[1].raw(), b"b,\"1");
    assert_eq!(all[2].reason(), "1 fields where the header has 2");
    assert_eq!(all[3].key(), "c");
    assert_eq!(all[4].reason(), "longer than 20 bytes");
    assert_eq!(all[4].raw(), "4".repeat(20).as_bytes());
    assert_eq!(all[5].key(), "d");
    assert_eq!(all.len(), 6);
}

#[test]
fn a_header_that_can_t_serve_is_an_error_at_once() {
    let failure = refused(b"a,b\n1,2\n", "k");
    assert_eq!(failure.to_string(), "f.csv has no column `k`; its columns are a, b");
    assert_eq!(failure.exit(), crate::exit::Exit::Usage);
    assert!(refused(b"k,b,k\n", "k").to_string().contains("more than one column `k`"));
    assert!(refused(b"k,\"b\n1,2\n", "k").to_string().contains("no header line"));
    assert!(refused(b"k,\xff\n", "k").to_string().contains("header line is not UTF-8"));
}

#[test]
fn a_record_whose_json_is_too_long_is_rejected() {
    let data = ["k,b\n1,\"".as_bytes(), &b"\x01".repeat(MAX_RECORD / 5), b"\"\n2,x\n"].concat();
    let options = options(Format::Csv, Some("k"), None);
    let seen = drain(&mut Source::from_stream(pieces(&data, usize::MAX), "test", None, &options).unwrap()).unwrap();
    assert!(seen[0].reason().starts_with("as JSON it has "), "{}", seen[0].reason());
    assert_eq!(seen[1].key(), "2");
}
