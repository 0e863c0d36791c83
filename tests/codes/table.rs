use chrono::NaiveDate;
use rollmark::codes::Class::{ApprovedActivity, Authorised, NotCollected, NotPossible, Present, Unauthorised};
use rollmark::codes::{Class, CodeRow, CodeTable, CodeTableError, CodedMark, MarkClass};
use rollmark::model::{RawCode, Session, Status, StudentId};

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// England's codes, written down again from the list of classes.
const CLASSES: [(Class, &str); 6] = [
    (Present, "/ \\ L"),
    (ApprovedActivity, "K V P W B J"),
    (Authorised, "C1 M J1 S C2 C T R I E H"),
    (Unauthorised, "G N O U"),
    (NotPossible, "D X Q Y1 Y2 Y3 Y4 Y5 Y6 Y7 Y"),
    (NotCollected, "Z #"),
];

#[test]
fn every_code_has_exactly_one_class_on_every_date() {
    let table = CodeTable::england();
    let codes = || CLASSES.into_iter().flat_map(|(class, codes)| codes.split(' ').map(move |code| (code, class)));
    for day in ["1990-01-01", "2024-08-18", "2024-08-19", "2026-11-20", "2099-12-31"].map(date) {
        for (code, class) in codes() {
            assert_eq!(table.lookup(day, code).unwrap().row.class, class, "{code} on {day}");
        }
    }
    assert_eq!(table.rows().count(), codes().count(), "no row beside these");
    assert!(table.rows().all(|row| (1..=2).contains(&row.code.chars().count()) && !row.meaning.is_empty()));
}

#[test]
fn a_code_that_is_not_in_force_is_found_with_a_warning() {
    let table = CodeTable::england();
    let warning = |code, day| table.lookup(date(day), code).unwrap().warning.map(|warning| warning.to_string());
    assert_eq!(warning("H", "2024-08-18"), None);
    assert_eq!(warning("H", "2024-08-19").unwrap(), "no longer in force since 2024-08-19; use C");
    assert_eq!(warning("J", "2026-11-20").unwrap(), "no longer in force since 2024-08-19; use J1");
    assert_eq!(warning("Y", "2026-11-20").unwrap(), "no longer in force since 2024-08-19; use Y1 to Y7");
    assert_eq!(warning("C1", "2024-08-18").unwrap(), "in force only from 2024-08-19");
    assert_eq!(warning("C1", "2024-08-19"), None);
    assert!(table.lookup(date("2026-11-20"), "q").is_none(), "letters are compared exactly");
}

#[test]
fn a_mapping_is_the_schools_and_none_is_guessed() {
    let today = date("2026-11-20");
    let table = CodeTable::england().with_mapping("HOL", "G").unwrap().with_mapping("M", "B").unwrap();
    assert_eq!(table.lookup(today, "HOL").unwrap().row.class, Unauthorised);
    assert_eq!(table.lookup(today, "M").unwrap().row.class, ApprovedActivity, "also where the table has the letter");
    assert!(table.lookup(today, "hol").is_none());
    let error = CodeTable::england().with_mapping("HOL", "QQ").unwrap_err();
    assert!(matches!(error, CodeTableError::UnknownTarget { .. }), "{error}");
}

#[test]
fn a_table_of_ones_own_can_change_a_class_on_a_date() {
    let row = |class| CodeRow::new("S", "Study leave", class);
    let rows = [
        row(Authorised).with_valid_from(date("2026-01-01")),
        row(ApprovedActivity).with_valid_until(date("2025-12-31")),
    ];
    let table = CodeTable::custom("Elsewhere", rows).unwrap();
    assert_eq!(table.lookup(date("2025-12-31"), "S").unwrap().row.class, ApprovedActivity);
    assert_eq!(table.lookup(date("2026-01-01"), "S").unwrap().row.class, Authorised);
    let error = CodeTable::custom("Elsewhere", [row(Authorised), row(Unauthorised)]).unwrap_err();
    assert_eq!(error.to_string(), "two rows of code S are in force on one date; give each dates of its own");
}

/// The class of a mark, and whether the school's own table says the opposite.
fn of(status: Status, letter: Option<&str>) -> Result<(Class, bool, bool), String> {
    let (student, raw, table) = (StudentId::new("1"), RawCode::new("31"), CodeTable::england());
    let mut mark = CodedMark::new(&student, date("2026-11-20"), Session::Am, status).with_raw_code(&raw);
    mark.code = letter;
    match table.class_of(mark) {
        MarkClass::Of { class, late, contradicts_school, .. } => Ok((class, late, contradicts_school)),
        MarkClass::NotTaken => Err("not taken".to_owned()),
        MarkClass::Unclassified(text) => Err(text.to_owned()),
        _ => unreachable!(),
    }
}

#[test]
fn a_marks_class_follows_from_its_status_first() {
    assert_eq!(
        of(Status::Present, Some("M")),
        Ok((Present, false, false)),
        "a student who is there has no other class"
    );
    assert_eq!(of(Status::Late, None), Ok((Present, true, false)));
    assert_eq!(of(Status::Absent, Some("U")), Ok((Unauthorised, true, false)));
    assert_eq!(of(Status::NotTaken, None), Err("not taken".to_owned()));
    assert_eq!(of(Status::Absent, None), Err(String::new()), "never an absence by default");
    assert_eq!(of(Status::UnknownCode, None), Err("31".to_owned()));
    assert_eq!(of(Status::Absent, Some("ZZ")), Err("ZZ".to_owned()));
}

#[test]
fn the_table_decides_where_the_schools_flag_says_the_opposite() {
    assert_eq!(of(Status::Absent, Some("V")), Ok((ApprovedActivity, false, true)));
    assert_eq!(of(Status::NotRequired, Some("V")), Ok((ApprovedActivity, false, false)));
    assert_eq!(of(Status::NotRequired, Some("I")), Ok((Authorised, false, true)));
    assert_eq!(of(Status::Absent, Some("L")), Ok((Present, true, true)));
    assert_eq!(of(Status::Absent, Some("Y3")), Ok((NotPossible, false, true)));
}
