//! Files that grow, shrink or are no longer the same, and named streams.

use std::fs;
use std::path::PathBuf;

use super::*;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, content: &str) -> PathBuf {
        let path = self.0.path().join("f");
        fs::write(&path, content).unwrap();
        path
    }

    fn append(&self, content: &str) {
        let path = self.0.path().join("f");
        fs::write(&path, [fs::read(&path).unwrap(), content.as_bytes().to_vec()].concat()).unwrap();
    }
}

fn ndjson() -> Options {
    options(Format::Ndjson, Some("k"), None)
}

fn following(format: Format) -> Options {
    Options { follow: true, ..options(format, Some("k"), None) }
}

fn keys(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(Seen::key).collect()
}

fn after(content: &str, options: &Options) -> Resume {
    let mut source = Source::from_stream(pieces(content.as_bytes(), usize::MAX), "f", None, options).unwrap();
    drain(&mut source).unwrap();
    Resume { position: source.position(), fingerprint: source.fingerprint(source.position()) }
}

fn refused(path: &Path, resume: &Resume, options: &Options) -> String {
    match Source::open(path, "f", Some(resume), options) {
        Ok(_) => panic!("taken"),
        Err(failure) => {
            assert_eq!(failure.exit(), crate::exit::Exit::Io);
            failure.to_string()
        }
    }
}

#[test]
fn a_file_that_grew_goes_on_with_what_is_new() {
    let dir = Dir::new();
    let path = dir.file("{\"k\":1}\n");
    let resume = after("{\"k\":1}\n", &ndjson());
    let mut source = Source::open(&path, "f", Some(&resume), &ndjson()).unwrap();
    assert!(drain(&mut source).unwrap().is_empty());
    dir.append("{\"k\":2}\n");
    let mut source = Source::open(&path, "f", Some(&resume), &ndjson()).unwrap();
    assert_eq!(keys(&drain(&mut source).unwrap()), ["2"]);
}

#[test]
fn a_shorter_or_replaced_file_is_refused() {
    let dir = Dir::new();
    let resume = after("{\"k\":1}\n{\"k\":2}\n", &ndjson());
    let error = refused(&dir.file("{\"k\":1}\n"), &resume, &ndjson());
    assert!(error.contains("f is shorter (8 bytes) than the offset already committed (16)"), "{error}");
    let error = refused(&dir.file("{\"k\":1}\n{\"k\":3}\n"), &resume, &ndjson());
    assert!(error.contains("does not begin with the same 16 bytes"), "{error}");
}

#[test]
fn a_last_line_that_grew_is_refused_and_one_that_was_ended_is_not() {
    for (format, content) in [(Format::Ndjson, "{\"k\":1}"), (Format::Csv, "k\n1")] {
        let options = options(format, Some("k"), None);
        let resume = after(content, &options);
        assert_eq!(resume.position, content.len() as u64);
        let dir = Dir::new();
        let path = dir.file(content);
        assert!(drain(&mut Source::open(&path, "f", Some(&resume), &options).unwrap()).unwrap().is_empty());
        dir.append("2");
        let error = refused(&path, &resume, &options);
        assert!(
            error.contains("the last line grew after it was taken: offset 7,") || error.contains("offset 3,"),
            "{error}"
        );
        for newline in ["\n", "\r\n"] {
            let path = dir.file(&format!("{content}{newline}{}", content.lines().last().unwrap()));
            assert_eq!(keys(&drain(&mut Source::open(&path, "f", Some(&resume), &options).unwrap()).unwrap()), ["1"]);
        }
    }
}

#[test]
fn a_missing_file_and_a_directory_are_errors_that_name_them() {
    let dir = Dir::new();
    let error = Source::open(&dir.0.path().join("none"), "none", None, &ndjson()).err().unwrap();
    assert!(error.to_string().starts_with("can't read none: "), "{error}");
    let error = Source::open(dir.0.path(), "d", None, &ndjson()).err().unwrap();
    assert!(error.to_string().contains("it is a directory"), "{error}");
}

#[test]
fn following_waits_for_whole_records() {
    for (format, header, parts) in [
        (Format::Ndjson, "", ["{\"k\"", ":1}", "\n{\"k\":2}\n{\"k\"", ":3}\r\n"]),
        (Format::Csv, "k,b\n", ["1,\"x", "\ny\"", "\n2,y\n3,", "z\r\n"]),
    ] {
        let dir = Dir::new();
        let mut source = Source::open(&dir.file(""), "f", None, &following(format)).unwrap();
        assert!(matches!(source.next().unwrap(), Step::Pending));
        dir.append(header);
        let mut seen = Vec::new();
        for (part, so_far) in parts.iter().zip([0, 0, 2, 3]) {
            dir.append(part);
            seen.extend(drain(&mut source).unwrap());
            assert!(matches!(source.next().unwrap(), Step::Pending));
            assert_eq!(seen.len(), so_far, "{format:?}, after {part:?}");
        }
        assert_eq!(keys(&seen), ["1", "2", "3"]);
    }
}

#[test]
fn following_an_overlong_line_waits_for_its_end() {
    let dir = Dir::new();
    let options = Options { limit: 10, ..following(Format::Ndjson) };
    let mut source = Source::open(&dir.file("{\"k\":1}\nxxxxxxxxxxxxxxxxx"), "f", None, &options).unwrap();
    assert_eq!(keys(&drain(&mut source).unwrap()), ["1"]);
    dir.append("yy");
    assert!(drain(&mut source).unwrap().is_empty());
    dir.append("y\n{\"k\":2}\n");
    let seen = drain(&mut source).unwrap();
    assert_eq!((seen[0].start, seen[0].end, seen[0].raw()), (8, 29, &b"xxxxxxxxxx"[..]));
    assert_eq!(seen[1].key(), "2");
}

#[test]
fn following_from_an_open_line_waits_for_its_newline() {
    let content = "{\"k\":1}";
    let resume = after(content, &ndjson());
    for (rest, goes_on) in [("\n{\"k\":2}\n", true), ("5}\n", false)] {
        let dir = Dir::new();
        let path = dir.file(content);
        let mut source = Source::open(&path, "f", Some(&resume), &following(Format::Ndjson)).unwrap();
        assert!(matches!(source.next().unwrap(), Step::Pending));
        dir.append(rest);
        match drain(&mut source) {
            Ok(seen) => assert!(goes_on && keys(&seen) == ["2"], "{seen:?}"),
            Err(error) => assert!(!goes_on && error.to_string().contains("the last line grew"), "{error}"),
        }
    }
}

#[test]
fn a_file_cut_while_followed_is_an_error() {
    let dir = Dir::new();
    let path = dir.file("{\"k\":1}\n{\"k\":2}\n");
    let mut source = Source::open(&path, "f", None, &following(Format::Ndjson)).unwrap();
    assert_eq!(drain(&mut source).unwrap().len(), 2);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8).unwrap();
    let error = drain(&mut source).unwrap_err().to_string();
    assert!(error.contains("was cut to 8 bytes while it was followed, after 16 bytes were read"), "{error}");
}

#[test]
fn a_named_stream_skips_exactly_what_is_committed() {
    let data = b"{\"k\":1}\n{\"k\":2}\n{\"k\":3}\n";
    let resume = after("{\"k\":1}\n{\"k\":2}\n", &ndjson());
    let stream = |data: &[u8]| Source::from_stream(pieces(data, 5), "feed", Some(&resume), &ndjson());
    assert_eq!(keys(&drain(&mut stream(data).unwrap()).unwrap()), ["3"]);
    let error = stream(&data[..9]).err().unwrap().to_string();
    assert!(error.contains("feed is shorter (9 bytes) than the offset already committed (16)"), "{error}");
    let error = stream(b"{\"k\":9}\n{\"k\":2}\n{\"k\":3}\n").err().unwrap().to_string();
    assert!(error.contains("does not begin with the same"), "{error}");
}

#[test]
fn a_named_stream_whose_last_line_grew_is_refused() {
    let resume = after("{\"k\":1}", &ndjson());
    let read =
        |data: &[u8]| drain(&mut Source::from_stream(pieces(data, 7), "feed", Some(&resume), &ndjson()).unwrap());
    assert_eq!(keys(&read(b"{\"k\":1}\n{\"k\":2}\n").unwrap()), ["2"]);
    assert!(read(b"{\"k\":1}").unwrap().is_empty());
    let error = read(b"{\"k\":1}5}\n").unwrap_err().to_string();
    assert!(error.contains("the last line grew"), "{error}");
}

#[test]
fn the_format_is_guessed_from_the_extension() {
    for (name, format) in [
        ("a.csv", Format::Csv),
        ("A.CSV", Format::Csv),
        ("a.ndjson", Format::Ndjson),
        ("a.jsonl", Format::Ndjson),
        ("a.json", Format::Ndjson),
        ("csv", Format::Ndjson),
        ("-", Format::Ndjson),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
}

#[test]
fn the_sample_is_read_to_its_end() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/flights.csv"));
    let options = options(Format::Csv, Some("tailnum"), Some("distance"));
    let seen = drain(&mut Source::open(path, "flights.csv", None, &options).unwrap()).unwrap();
    assert_eq!(seen.len(), 9762);
    assert_eq!(seen[0].what, Ok(("N14228".into(), "1400".into())));
    assert_eq!(seen.last().unwrap().end, fs::metadata(path).unwrap().len());
}
