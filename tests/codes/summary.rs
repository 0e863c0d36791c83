use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use proptest::prelude::*;
use rollmark::codes::{CodeTable, CodedMark, Part, Percentage, Summary};
use rollmark::model::{RawCode, Session, Status, StudentId};
use rollmark::rules::Window;
use serde_json::{Value, json};

/// A mark that owns its texts.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    student: StudentId,
    date: NaiveDate,
    session: Session,
    status: Status,
    code: Option<&'static str>,
    raw: RawCode,
    as_of: DateTime<Utc>,
}

impl<'a> From<&'a Sample> for CodedMark<'a> {
    fn from(sample: &'a Sample) -> Self {
        let mark = CodedMark::new(&sample.student, sample.date, sample.session, sample.status);
        let mark = mark.with_raw_code(&sample.raw).with_as_of(sample.as_of);
        sample.code.map_or(mark, |code| mark.with_code(code))
    }
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn window() -> Window {
    Window::between(date("2024-08-05"), date("2024-10-03")).unwrap()
}

fn table() -> CodeTable {
    CodeTable::england().with_mapping("HOL", "G").unwrap().with_mapping("M", "B").unwrap()
}

const LETTERS: [&str; 20] =
    ["/", "L", "K", "V", "M", "C1", "I", "H", "J", "Y", "G", "N", "U", "D", "Y4", "Z", "#", "HOL", "xx", "hol"];

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let statuses =
        [Status::Present, Status::Late, Status::Absent, Status::NotRequired, Status::NotTaken, Status::UnknownCode];
    // Some of the dates are outside of the range.
    let place = (0..4_u8, 0..70_u64, any::<bool>());
    let content =
        (prop::sample::select(statuses.to_vec()), prop::option::of(prop::sample::select(&LETTERS[..])), 0..3_u8);
    prop::collection::btree_map(place, content, 0..120).prop_map(|marks| {
        let sample =
            |((student, day, is_am), (status, code, number)): ((u8, u64, bool), (Status, Option<_>, u8))| Sample {
                student: format!("s{student}").into(),
                date: date("2024-08-01") + Days::new(day),
                session: if is_am { Session::Am } else { Session::Pm },
                status,
                code: code.filter(|_| matches!(status, Status::Absent | Status::NotRequired | Status::Present)),
                raw: RawCode::new(number.to_string()),
                as_of: DateTime::from_timestamp(1_700_000_000 + i64::from(number), 0).unwrap(),
            };
        marks.into_iter().map(sample).collect()
    })
}

/// The same calculation from the list of classes, slowly: each figure by a pass of its own.
fn slowly(samples: &[Sample]) -> Value {
    let inside: Vec<&Sample> = samples.iter().filter(|mark| window().contains(mark.date)).collect();
    let held: BTreeSet<_> = inside.iter().map(|mark| (mark.date, mark.session)).collect();
    let kind = |mark: &Sample| -> String {
        let letter = match mark.code {
            Some("HOL") => "G",
            Some("M") => "B",
            Some(letter) => letter,
            None => "",
        };
        match (mark.status, letter) {
            (Status::Present, _) => "present".into(),
            (Status::Late, _) => "present late".into(),
            (Status::NotTaken, _) => "not taken".into(),
            (Status::UnknownCode, _) => format!("?{}", mark.raw),
            (_, "/") => "present".into(),
            (_, "L") => "present late".into(),
            (_, "K" | "V" | "B" | "J") => "approved".into(),
            (_, "C1" | "I" | "H") => "authorised".into(),
            (_, "G" | "N") => "unauthorised".into(),
            (_, "U") => "unauthorised late".into(),
            (_, "D" | "Y" | "Y4") => "not possible".into(),
            (_, "Z" | "#") => "not collected".into(),
            (_, other) => format!("?{other}"),
        }
    };
    let sums = |marks: &[&Sample]| -> serde_json::Map<String, Value> {
        let count = |start: &str| marks.iter().filter(|mark| kind(mark).starts_with(start)).count();
        let attended = count("present") + count("approved");
        let possible = attended + count("authorised") + count("unauthorised");
        let mut unclassified: BTreeMap<String, usize> = BTreeMap::new();
        for mark in marks {
            if let Some(letter) = kind(mark).strip_prefix('?') {
                *unclassified.entry(letter.to_owned()).or_default() += 1;
            }
        }
        // Half up, on exact thousandths.
        let percentage = (possible > 0).then(|| {
            let (tenths, rest) = (attended * 1000 / possible, attended * 1000 % possible);
            let tenths = tenths + usize::from(2 * rest >= possible);
            format!("{}.{}", tenths / 10, tenths % 10)
        });
        let object = json!({
            "possible": possible, "attended": attended, "authorised": count("authorised"),
            "unauthorised": count("unauthorised"), "late_before": count("present late"),
            "late_after": count("unauthorised late"), "percentage": percentage,
            "left_out": {
                "not_taken": count("not taken"), "not_possible": count("not possible"),
                "not_collected": count("not collected"), "unclassified": unclassified,
            },
        });
        object.as_object().unwrap().clone()
    };
    let (mut students, mut no_mark) = (Vec::new(), serde_json::Map::new());
    for student in inside.iter().map(|mark| &mark.student).collect::<BTreeSet<_>>() {
        let own: Vec<&Sample> = inside.iter().copied().filter(|mark| mark.student == *student).collect();
        let mut object = serde_json::Map::from_iter([("student".to_owned(), json!(student))]);
        object.extend(sums(&own));
        students.push(object);
        let missing = held.iter().filter(|held| !own.iter().any(|mark| (mark.date, mark.session) == **held)).count();
        if missing > 0 {
            no_mark.insert(student.to_string(), json!(missing));
        }
    }
    let mut contradicting: BTreeMap<&str, usize> = BTreeMap::new();
    for mark in &inside {
        let kind = kind(mark);
        let is_absence = kind.starts_with("authorised") || kind.starts_with("unauthorised");
        let flag = match mark.status {
            Status::Absent => true,
            Status::NotRequired => false,
            _ => continue,
        };
        if let Some(letter) = mark.code
            && !kind.starts_with('?')
            && flag != is_absence
        {
            *contradicting.entry(letter).or_default() += 1;
        }
    }
    let as_of = inside.iter().map(|mark| mark.as_of).min().map(|as_of| as_of.to_rfc3339().replace("+00:00", "Z"));
    json!({
        "from": window().from(), "to": window().to(), "as_of": as_of, "edition": "England, August 2024",
        "students": students, "total": sums(&inside), "no_mark": no_mark, "contradicting": contradicting,
    })
}

proptest! {
    #[test]
    fn sums_are_those_of_a_slow_calculation(samples in samples()) {
        let summary = Summary::of(&table(), window(), &samples);
        prop_assert_eq!(serde_json::to_value(&summary).unwrap(), slowly(&samples));
    }

    #[test]
    fn the_order_of_marks_does_not_matter(samples in samples(), seed in any::<u64>()) {
        let mut others = samples.clone();
        others.sort_by_key(|mark| (u64::from(mark.date.ordinal()) ^ seed, mark.session, mark.student.clone()));
        prop_assert_eq!(Summary::of(&table(), window(), &samples), Summary::of(&table(), window(), &others));
    }

    #[test]
    fn parts_add_up_to_the_whole_and_each_mark_is_counted_once(samples in samples()) {
        let whole = Summary::of(&table(), window(), &samples);
        let inside = samples.iter().filter(|mark| window().contains(mark.date)).count() as u64;
        prop_assert_eq!(whole.total().marks(), inside);
        for part in [Part::Week, Part::Month] {
            let parts = Summary::by_part(&table(), window(), part, &samples);
            let of_parts = |count: fn(&Summary) -> u64| parts.iter().map(count).sum::<u64>();
            prop_assert_eq!(of_parts(|part| part.total().marks()), inside);
            prop_assert_eq!(of_parts(|part| part.total().attended()), whole.total().attended());
            prop_assert_eq!(of_parts(|part| part.total().possible()), whole.total().possible());
            prop_assert_eq!(parts.iter().filter_map(Summary::as_of).min(), whole.as_of());
        }
    }
}

#[test]
fn weeks_begin_on_mondays_and_the_ends_are_cut() {
    let dates = |part| -> Vec<String> {
        let parts = Summary::by_part(&table(), window(), part, &[] as &[Sample]);
        parts.iter().map(|part| format!("{} {}", part.window().from(), part.window().to())).collect()
    };
    let weeks = dates(Part::Week);
    assert_eq!((weeks.len(), &*weeks[0], &*weeks[8]), (9, "2024-08-05 2024-08-11", "2024-09-30 2024-10-03"));
    assert_eq!(dates(Part::Month), ["2024-08-05 2024-08-31", "2024-09-01 2024-09-30", "2024-10-01 2024-10-03"]);
}

#[test]
fn a_percentage_is_rounded_half_up() {
    let text = |part, whole| Percentage::of(part, whole).map(|share| share.to_string());
    assert_eq!(text(99, 104).unwrap(), "95.2");
    assert_eq!(text(1, 2000).unwrap(), "0.1");
    assert_eq!(text(1, 2001).unwrap(), "0.0");
    assert_eq!(text(3, 16).unwrap(), "18.8");
    assert_eq!(text(7, 7).unwrap(), "100.0");
    assert_eq!(text(0, 0), None);
    assert_eq!(text(u64::MAX, u64::MAX).unwrap(), "100.0");
}

#[test]
fn a_student_without_a_mark_lacks_every_session_that_was_held() {
    let held =
        [(date("2024-09-02"), Session::Am), (date("2024-09-02"), Session::Pm), (date("2025-01-06"), Session::Am)];
    let summary = Summary::of(&table(), window(), &[] as &[Sample]).with_students(["s1"]).with_sessions_held(held);
    assert_eq!(summary.no_mark(), BTreeMap::from([(&StudentId::new("s1"), 2)]));
    assert_eq!((summary.total().percentage(), summary.as_of()), (None, None));
}
