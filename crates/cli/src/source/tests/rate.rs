//! How fast records are read. Ignored: a measurement, not a check. Run with
//! `cargo test --release -p corewal-cli rate -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

const LINES: usize = 2_000_000;

fn flight(number: usize) -> String {
    format!(
        "{{\"year\":2013,\"month\":1,\"day\":{},\"dep_time\":517,\"sched_dep_time\":515,\"dep_delay\":2,\"arr_time\":830,\
         \"sched_arr_time\":819,\"arr_delay\":{},\"carrier\":\"UA\",\"flight\":{},\"tailnum\":\"N{:05}\",\"origin\":\"EWR\",\
         \"dest\":\"IAH\",\"air_time\":227,\"distance\":1400,\"hour\":5,\"minute\":15,\"time_hour\":\"2013-01-01T10:00:00Z\"}}\n",
        number % 28 + 1,
        number % 90,
        number % 5000,
        number % 4043
    )
}

fn measure(what: &str, data: &[u8], lines: usize, options: &Options) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input");
    std::fs::write(&path, data).unwrap();
    for _ in 0..3 {
        let begin = Instant::now();
        let mut source = Source::open(&path, "input", None, options).unwrap();
        let (mut count, mut bytes) = (0, 0);
        while let Step::Record(record) = source.next().unwrap() {
            count += 1;
            bytes += record.key.len() + record.value.len();
        }
        let seconds = begin.elapsed().as_secs_f64();
        assert_eq!(count, lines);
        println!(
            "{what}: {:.0} records/s, {:.0} MB/s, {bytes} bytes out",
            count as f64 / seconds,
            data.len() as f64 / seconds / 1e6
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn rate() {
    let data: String = (0..LINES).map(flight).collect();
    println!("{} bytes a line", data.len() / LINES);
    measure("ndjson last", data.as_bytes(), LINES, &options(Format::Ndjson, Some("tailnum"), None));
    measure("ndjson sum", data.as_bytes(), LINES, &options(Format::Ndjson, Some("tailnum"), Some("distance")));

    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/flights.csv");
    let sample = std::fs::read_to_string(sample).unwrap();
    let (header, body) = sample.split_once('\n').unwrap();
    let data = format!("{header}\n{}", body.repeat(100));
    let lines = body.lines().count() * 100;
    measure("csv last", data.as_bytes(), lines, &options(Format::Csv, Some("tailnum"), None));
    measure("csv sum", data.as_bytes(), lines, &options(Format::Csv, Some("tailnum"), Some("distance")));
}
