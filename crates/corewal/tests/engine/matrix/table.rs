//! The table itself.

use std::path::Path;

#[test]
fn every_test_that_the_table_names_exists() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = std::fs::read_to_string(docs.join("DURABILITY.md")).unwrap();
    let (_, text) = text.split_once("## Fault classes").unwrap();
    let (table, _) = text.split_once("\n## ").unwrap();
    let mut classes = 0;
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")) {
        classes += 1;
        assert!(row.starts_with(&format!("| {classes} | ")), "{row}");
        let mut tests = 0;
        for link in row.split('[').skip(1) {
            let (name, rest) = link.split_once("](").unwrap();
            let file = docs.join(rest.split_once(')').unwrap().0);
            let there = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let script = name.trim_matches('`');
            assert!(
                there.contains(&format!("fn {name}(")) || name != script && file.ends_with(script),
                "class {classes}: {} has no {name}",
                file.display()
            );
            tests += 1;
        }
        assert!(tests > 0, "class {classes} names no test");
    }
    assert_eq!(classes, 24);
}
