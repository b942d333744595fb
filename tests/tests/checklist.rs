//! `docs/checklist.md` and the source say the same: every point has a test, every such test is in the table, and nothing
//! is in the table that is not in the source.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use weir_tests::root;

/// How many points the checklist has.
const POINTS: usize = 39;

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != ".git" {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `checklist_NN_…` names behind `before` in a text.
fn names<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split(before)
        .skip(1)
        .filter(|rest| rest.starts_with("checklist_"))
        .map(|rest| {
            rest.chars()
                .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
                .collect()
        })
}

fn in_source() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    files
        .iter()
        .flat_map(|file| names(&fs::read_to_string(file).expect("text"), "fn ").collect::<Vec<_>>())
        .collect()
}

#[test]
fn table_and_source_name_the_same_tests() {
    let table = fs::read_to_string(root().join("docs/checklist.md")).expect("the table");
    let in_table: BTreeSet<String> = names(&table, "`").collect();
    let in_source = in_source();
    let missing: Vec<_> = in_source.difference(&in_table).collect();
    let stale: Vec<_> = in_table.difference(&in_source).collect();
    assert!(missing.is_empty(), "not in docs/checklist.md: {missing:?}");
    assert!(
        stale.is_empty(),
        "in docs/checklist.md, but not in the source: {stale:?}"
    );
}

#[test]
fn every_point_has_a_test() {
    let in_source = in_source();
    let without: Vec<usize> = (1..=POINTS)
        .filter(|point| {
            !in_source
                .iter()
                .any(|name| name.starts_with(&format!("checklist_{point:02}_")))
        })
        .collect();
    assert_eq!(without, Vec::<usize>::new());
}
