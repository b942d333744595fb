//! `docs/msc3898.md` and the source say the same: every test that it names is where it says, and every sentence has a test or is
//! said not to be done yet.

use std::fs;

use weir_tests::root;

/// What the last column of a row says that has no tests.
const NOT_YET: &str = "not yet";

struct Row {
    /// Which of the proposal's texts.
    text: String,
    says: String,
    /// What is done about it.
    here: String,
    /// The last column.
    tests: String,
}

/// All rows of all tables. A cell never holds the character that separates them.
fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join("docs/msc3898.md")).expect("the table");
    let cells = page.lines().filter_map(|line| {
        let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<String> = inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect();
        Some(cells)
    });
    cells
        .filter(|cells| cells[0] != "text")
        .map(|cells| {
            let [text, says, here, tests] = cells.try_into().expect("four columns");
            Row {
                text,
                says,
                here,
                tests,
            }
        })
        .collect()
}

/// The tests that a cell names, with their files.
fn tests_of(cell: &str) -> Vec<(String, String)> {
    let named = cell.split("<br>").map(|test| {
        let (name, file) = test.split_once("` (").expect("`name` (file)");
        let name = name.strip_prefix('`').expect("`name` (file)");
        let file = file.strip_suffix(')').expect("`name` (file)");
        (name.to_owned(), file.to_owned())
    });
    named.collect()
}

#[test]
fn every_sentence_is_of_one_text_or_both_and_has_tests_or_is_not_done_yet() {
    let rows = rows();
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in &rows {
        assert!(
            ["both", "early", "late"].contains(&row.text.as_str()),
            "{}: {}",
            row.text,
            row.says
        );
        assert!(!row.says.is_empty());
        let is_done = row.tests != NOT_YET;
        assert!(!is_done || !tests_of(&row.tests).is_empty(), "{}", row.says);
    }
    for text in ["early", "late"] {
        assert!(rows.iter().any(|row| row.text == text), "{text}");
    }
}

#[test]
fn every_test_that_is_named_is_where_it_is_said_to_be() {
    for row in rows().iter().filter(|row| row.tests != NOT_YET) {
        for (name, file) in tests_of(&row.tests) {
            let source = fs::read_to_string(root().join(&file));
            let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
            // Those of the page are named in words.
            let (sign, is_test) = match file.rsplit_once('.') {
                Some((_, "rs")) => (format!("fn {name}("), is_test(&source, &name)),
                Some((_, "py")) => (format!("def {name}("), true),
                _ => (format!("expect(\"{name}\""), true),
            };
            assert!(source.contains(&sign), "{file} has no {name}");
            assert!(is_test, "{name} in {file} is no test");
        }
    }
}

/// Whether an attribute before the function makes it a test.
fn is_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else {
        return false;
    };
    let lines = before
        .lines()
        .rev()
        .skip(usize::from(!before.ends_with('\n')));
    let mut attributes = lines.take_while(|line| line.trim_start().starts_with("#["));
    attributes.any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
}

#[test]
fn what_is_named_elsewhere_in_the_tables_is_there() {
    for row in rows() {
        for path in row.here.split('`').skip(1).step_by(2) {
            if path.contains('/') && path.contains('.') && !path.contains(' ') {
                assert!(root().join(path).exists(), "{path}: {}", row.says);
            }
        }
    }
}
