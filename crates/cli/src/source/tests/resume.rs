//! Going on from the end of any record gives exactly the rest.

use std::io::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn resume(source: &Source, position: u64) -> Resume {
    Resume { position, fingerprint: source.fingerprint(position) }
}

/// Reads `data` once, then again from each record's end: out of a file, and
/// out of a stream that comes in pieces.
fn check_all_ends(data: &[u8], options: &Options, piece: usize) -> Result<(), TestCaseError> {
    let mut source = Source::from_stream(pieces(data, usize::MAX), "test", None, options).unwrap();
    let all = drain(&mut source).unwrap();
    prop_assert!(all.iter().all(|seen| seen.what.is_ok() || !seen.raw().is_empty()));

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    let mut fresh = Source::open(file.path(), "test", None, options).unwrap();
    prop_assert_eq!(&drain(&mut fresh).unwrap(), &all);
    for (at, seen) in all.iter().enumerate() {
        let resume = resume(&source, seen.end);
        let mut again = Source::open(file.path(), "test", Some(&resume), options).unwrap();
        prop_assert_eq!(&drain(&mut again).unwrap(), &all[at + 1..], "file, after {:?}", seen);
        // A resumed source gives the same fingerprints as the first one.
        prop_assert_eq!(again.fingerprint(data.len() as u64), source.fingerprint(data.len() as u64));
        let mut again = Source::from_stream(pieces(data, piece), "test", Some(&resume), options).unwrap();
        prop_assert_eq!(&drain(&mut again).unwrap(), &all[at + 1..], "stream, after {:?}", seen);
        let mut again = Source::from_stream(hesitant(data, piece), "test", Some(&resume), options).unwrap();
        prop_assert_eq!(&drain_to_end(&mut again).unwrap(), &all[at + 1..], "hesitant stream, after {:?}", seen);
    }
    Ok(())
}

fn text(parts: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(parts), 0..most).prop_map(|parts| parts.concat().into_bytes())
}

const JSON: &[&str] = &[
    "{\"k\":1}\n",
    "{\"k\":\"a b\",\"n\":2}\r\n",
    "{\"n\":[1,{\"k\":2}]}\n",
    "\n",
    " \r\n",
    "nonsense\n",
    "{\"k\":1}",
    "\"",
    "{",
    "}",
    "\u{feff}",
    "\r",
    "{\"k\":\"0123456789012345678901234567890123456789\"}\n",
];

const CSV: &[&str] = &[
    "a,b\n",
    "1,\"x\ny\"\r\n",
    "\"q\"\"q\",2\n",
    ",",
    "\"",
    "\n",
    "\r",
    "\r\n",
    "z",
    "only\n",
    "1,2,3\n",
    "\u{feff}",
    "é",
    "0123456789012345678901234567890123456789,1\n",
    " ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn ndjson(data in text(JSON, 12), piece in 1_usize..40) {
        let mut options = options(Format::Ndjson, Some("k"), None);
        options.limit = 40;
        check_all_ends(&data, &options, piece)?;
    }

    #[test]
    fn csv(data in text(CSV, 24), piece in 1_usize..40) {
        let mut options = options(Format::Csv, Some("k"), None);
        options.limit = 30;
        check_all_ends(&[b"k,b\n", &data[..]].concat(), &options, piece)?;
    }

    #[test]
    fn every_csv_record_that_a_writer_writes_comes_back(records in vec(("[a-z]{1,3}", "[ -~\n\r\"é,]{0,9}"), 0..20)) {
        let mut data = b"k,b\n".to_vec();
        for (k, b) in &records {
            data.extend(format!("{k},\"{}\"\n", b.replace('"', "\"\"")).into_bytes());
        }
        let seen = read(&data, &options(Format::Csv, Some("k"), None));
        prop_assert_eq!(seen.len(), records.len());
        for (seen, (k, b)) in seen.iter().zip(&records) {
            prop_assert_eq!(seen.value(), serde_json::json!({"k": k, "b": b}).to_string());
        }
    }

    #[test]
    fn any_bytes_are_safe(data: Vec<u8>) {
        check_all_ends(&data, &options(Format::Ndjson, None, None), 3)?;
        check_all_ends(&[b"k,b\n", &data[..]].concat(), &options(Format::Csv, None, Some("b")), 3)?;
        // As a header, too: data or an error.
        if let Ok(mut source) = Source::from_stream(pieces(&data, 3), "test", None, &options(Format::Csv, None, None)) {
            drain(&mut source).unwrap();
        }
    }
}
