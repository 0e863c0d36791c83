//! Worked cases: records and settings with the marks and issues that follow from them.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::case::Case;
use rollmark::rules::Resolver;

fn check_folder(folder: &Path) -> usize {
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        check(&path);
        checked += 1;
    }
    checked
}

fn check(path: &Path) {
    let case = Case::read(path);
    let mut resolver = Resolver::new(case.rules(), case.scope());
    for record in case.records() {
        resolver.push(record);
    }
    let register = resolver.finish().unwrap();
    let lines: Vec<serde_json::Value> =
        register.marks().map(|mark| serde_json::from_str(&mark.to_json_line()).unwrap()).collect();
    for (line, expected) in lines.iter().zip(&case.marks) {
        assert_eq!(line, expected, "{}", path.display());
    }
    assert_eq!(lines.len(), case.marks.len(), "number of marks in {}", path.display());
    let issues: BTreeMap<String, u64> =
        register.issues().iter().map(|(issue, count)| (issue.name().to_owned(), count.count)).collect();
    assert_eq!(issues, case.issues, "issues of {}", path.display());
}

#[test]
fn the_cases_of_this_crate_give_their_marks_and_issues() {
    assert_eq!(check_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")), 2);
}

#[test]
fn the_shared_cases_give_their_marks_and_issues_where_they_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    if folder.is_dir() {
        assert!(check_folder(&folder) > 0, "{} holds no case", folder.display());
    } else {
        println!("there is no folder of shared cases beside this checkout: only the two of the crate were checked");
    }
}
