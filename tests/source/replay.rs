//! Kept replies: they repeat a sync or a diagnosis without the management system, and masked ones decide the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::program::rollmark;
use crate::common::records::{records, rules, session_marks};
use crate::common::source::{Item, items};
use futures::StreamExt;
use proptest::prelude::*;
use rollmark::model::{Decision, LoserReason, Mark, RawCode, Record, Registration, Session, SessionMark, StudentId};
use rollmark::rules::{Resolver, Rules, Scope, Window};
use rollmark::source::{AttendanceSource, FetchRequest, ReplaySource, SavingSource, SourceError, SourceErrorKind};
use rollmark::testing::conformance::source::{every, school};
use rollmark::testing::simulator::Simulator;
use rollmark::testing::{FakeSchool, FakeSource};
use tokio::runtime::Runtime;

fn window(from: &str, to: &str) -> Window {
    Window::between(from.parse().unwrap(), to.parse().unwrap()).unwrap()
}

async fn read(source: &dyn AttendanceSource, window: Window, periods: bool) -> Result<Vec<Record>, SourceError> {
    let items = items(source.fetch(&FetchRequest::new(window).with_periods(periods)).await?).await;
    let record = |item| match item {
        Ok(Item::Record(record)) => Some(Ok(record)),
        Ok(Item::Complete(_)) => None,
        Err(error) => Some(Err(error)),
    };
    items.into_iter().filter_map(record).collect()
}

fn save(folder: &std::path::Path, school: FakeSchool) -> SavingSource {
    SavingSource::new(FakeSource::new(school), folder, "2026-11-20T18:00:00Z".parse().unwrap()).unwrap()
}

#[tokio::test]
async fn keeping_changes_nothing_and_kept_replies_are_a_source_like_any_other() {
    for is_masked in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let saving = save(folder.path(), school());
        let saving = saving.with_masking(is_masked);
        every(&saving, &school()).await.unwrap();
        let replay = ReplaySource::open(folder.path()).unwrap();
        if !is_masked {
            every(&replay, &school()).await.unwrap();
        }
        assert_eq!(replay.fetched_at(), "2026-11-20T18:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap());
        assert_eq!(replay.capabilities(), saving.capabilities());
        assert_eq!(replay.wording(), saving.wording());
    }
}

#[tokio::test]
async fn a_fetch_that_breaks_off_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeSource::new(school());
    fake.cut_next_after(100);
    let saving = SavingSource::new(fake, folder.path(), chrono::Utc::now()).unwrap();
    read(&saving, window("2026-11-20", "2026-11-20"), false).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn only_what_was_read_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let saving = save(folder.path(), school());
    let week = window("2026-11-16", "2026-11-20");
    let records = read(&saving, week, false).await.unwrap();
    let replay = ReplaySource::open(folder.path()).unwrap();
    assert_eq!(read(&replay, week, false).await.unwrap(), records);
    assert_eq!(read(&replay, window("2026-11-18", "2026-11-18"), false).await.unwrap(), records);
    for (window, periods) in [(window("2026-11-15", "2026-11-20"), false), (week, true)] {
        let error = read(&replay, window, periods).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Incomplete, "{error}");
    }
}

#[tokio::test]
async fn damaged_files_and_folders_in_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ReplaySource::open(folder.path()).unwrap_err().to_string().contains("holds no saved replies"));
    let day = window("2026-11-20", "2026-11-20");
    read(&save(folder.path(), school()), day, false).await.unwrap();
    let again = SavingSource::new(FakeSource::new(school()), folder.path(), chrono::Utc::now());
    assert!(again.unwrap_err().to_string().contains("already"));
    let second = tempfile::tempdir().unwrap();
    std::fs::write(second.path().join("replies-2.json"), "{}").unwrap();
    let again = SavingSource::new(FakeSource::new(school()), second.path(), chrono::Utc::now());
    assert!(again.unwrap_err().to_string().contains("already"), "whatever its number");
    let records = folder.path().join("replies-1.records.jsonl");
    let whole = std::fs::read(&records).unwrap();
    for half in [
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1 - whole.rsplit(|byte| *byte == b'\n').nth(1).unwrap().len()],
    ] {
        std::fs::write(&records, half).unwrap();
        let error = read(&ReplaySource::open(folder.path()).unwrap(), day, false).await.unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}

#[tokio::test]
async fn replies_in_the_form_of_another_version_are_called_so() {
    let folder = tempfile::tempdir().unwrap();
    read(&save(folder.path(), school()), window("2026-11-20", "2026-11-20"), false).await.unwrap();
    let manifest = folder.path().join("replies-1.json");
    let whole: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let (mut unnumbered, mut newer) = (whole.clone(), whole.clone());
    unnumbered.as_object_mut().unwrap().remove("format").unwrap();
    newer["format"] = 2.into();
    // At first a manifest had no seal.
    for other in [whole["fetch"].clone(), unnumbered, newer] {
        std::fs::write(&manifest, other.to_string()).unwrap();
        let error = ReplaySource::open(folder.path()).unwrap_err().to_string();
        let says = "replies-1.json was kept by another version of rollmark; save the replies again";
        assert!(error.ends_with(says), "{error}");
    }
}

#[tokio::test]
async fn the_last_time_that_a_feed_can_hold_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let mut school = FakeSchool::new();
    for (id, end) in [("1", "9999-12-31T24:00"), ("2", "9999-12-31T24:00:00+01:00"), ("3", "9999-12-31T23:59:59-01:00")]
    {
        school.out_of_school(id, "1", "2026-11-20", end);
    }
    let day = window("2026-11-20", "2026-11-20");
    let records = read(&save(folder.path(), school), day, false).await.unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!(read(&ReplaySource::open(folder.path()).unwrap(), day, false).await.unwrap(), records);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("evidence");
    read(&save(&folder, school()), window("2026-11-20", "2026-11-20"), false).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|file| mode(file) == 0o600));
}

#[tokio::test]
async fn masked_replies_hold_no_id_of_a_student_or_record_and_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut school = FakeSchool::new();
    school.registration("ROW-77", "STUDENT-88", "2026-11-20T08:40:00").in_period("PERIOD-66").comment =
        Some("broke a leg".into());
    school.period("PERIOD-66", "2026-11-20T08:40:00", Some("am"));
    school.out_of_school("SPAN-99", "STUDENT-88", "2026-11-20", "2026-11-20").reason = Some("hospital".into());
    let saving = save(folder.path(), school).with_masking(true);
    read(&saving, window("2026-11-20", "2026-11-20"), true).await.unwrap();
    let mut kept = String::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        kept += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    assert!(kept.contains("student-00000001"));
    for secret in ["ROW-77", "STUDENT-88", "SPAN-99", "PERIOD-66", "leg", "hospital"] {
        assert!(!kept.contains(secret), "{secret}");
    }
    assert_eq!(saving.masked_student(&StudentId::new("STUDENT-88")), Some(StudentId::new("student-00000001")));
    let debug = format!("{saving:?}");
    assert!(debug.contains("is_masked: true") && !debug.contains("student-00000001"), "{debug}");
}

/// Everything that a mark says but the ids, and the code where the code table does not know it.
type Content = (StudentId, chrono::NaiveDate, String, Option<u32>, Option<Decision>, Vec<LoserReason>);

fn content(mark: Mark, student: StudentId) -> Content {
    let mut decision = mark.decision.clone();
    let reasons = decision.losers.iter().map(|loser| loser.why).collect();
    decision.losers.clear();
    decision.winner.id = None;
    if let Some(picked) = &mut decision.registration {
        (picked.id, picked.period) = (None, None);
    }
    let known = mark.raw_code.as_ref().filter(|_| mark.code.is_some());
    let says = format!("{} {} {:?} {known:?} {}", mark.session, mark.status, mark.code, mark.raw_code.is_some());
    (student, mark.date, says, mark.minutes_late, Some(decision), reasons)
}

/// Marks in the order of their real students, and how often each issue was raised.
type Decided = (Vec<Content>, Vec<(String, u64)>);

fn decided(
    rules: Rules,
    window: Window,
    records: Vec<Record>,
    real: impl Fn(&StudentId) -> StudentId,
) -> Option<Decided> {
    let mut resolver = Resolver::new(rules, Scope::all(window));
    resolver.extend(records);
    let register = resolver.finish().ok()?;
    let mut marks: Vec<Content> = register
        .marks()
        .map(|mark| {
            let student = real(&mark.student);
            content(mark, student)
        })
        .collect();
    // The marks of one student stay in their order.
    marks.sort_by(|one, other| one.0.cmp(&other.0));
    let issues = register.issues().iter().map(|(issue, raised)| (issue.to_string(), raised.count)).collect();
    Some((marks, issues))
}

/// Students of whom two differ only in the case of their ids, and a code that is a text.
fn renamed(mut record: Record) -> Record {
    let student = |id: &StudentId| StudentId::new(["ab", "aB", "b"][id.as_str().parse::<usize>().unwrap() - 1]);
    let code =
        |code: Option<RawCode>| code.map(|code| if code.as_str() == "99" { "1 Ben is ill".into() } else { code });
    match &mut record {
        Record::Registration(row) => (row.student, row.code) = (student(&row.student), code(row.code.take())),
        Record::OutOfSchool(span) => (span.student, span.code) = (student(&span.student), code(span.code.take())),
        Record::SessionMark(mark) => (mark.student, mark.code) = (student(&mark.student), code(mark.code.take())),
        _ => {}
    }
    record
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn masked_and_unmasked_replays_give_the_same_decisions(
        records in prop_oneof![2 => records(), 1 => session_marks()],
        rules in rules(),
    ) {
        let window = window("2026-03-28", "2026-03-29");
        let mut school = FakeSchool::new();
        records.into_iter().map(renamed).for_each(|record| school.add(record));
        let (open, masked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let replayed = async |folder: &Path| read(&ReplaySource::open(folder).unwrap(), window, true).await.unwrap();
        let (expected, found) = Runtime::new().unwrap().block_on(async {
            read(&save(open.path(), school.clone()), window, true).await.unwrap();
            let saving = save(masked.path(), school).with_masking(true);
            read(&saving, window, true).await.unwrap();
            let real: BTreeMap<StudentId, StudentId> = ["ab", "aB", "b"].into_iter().map(StudentId::new)
                .filter_map(|student| Some((saving.masked_student(&student)?, student))).collect();
            let expected = decided(rules.clone(), window, replayed(open.path()).await, Clone::clone);
            (expected, decided(rules, window, replayed(masked.path()).await, |masked| real[masked].clone()))
        });
        prop_assert_eq!(expected, found);
    }
}

#[tokio::test]
async fn masked_ids_that_differed_in_case_still_do_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut school = FakeSchool::new();
    let ids = ["A-17", "a-17", "B-1", "éa", "ÉA", "Éa", "éA", "C"];
    for (number, id) in ids.iter().enumerate() {
        school.registration(&number.to_string(), id, "2026-11-20T08:40:00");
    }
    let saving = save(folder.path(), school).with_masking(true);
    read(&saving, window("2026-11-20", "2026-11-20"), false).await.unwrap();
    let masked = ids.map(|id| saving.masked_student(&id.into()).unwrap());
    for (id, mask) in ids.iter().zip(&masked) {
        for (other_id, other_mask) in ids.iter().zip(&masked) {
            assert_eq!(id == other_id, mask == other_mask);
            let alike = mask.as_str().eq_ignore_ascii_case(other_mask.as_str());
            assert_eq!(id.to_lowercase() == other_id.to_lowercase(), alike, "{mask} {other_mask}");
        }
    }
}

#[tokio::test]
async fn session_marks_are_kept_and_masked_like_rows() {
    let day = window("2026-11-20", "2026-11-20");
    let mut mark = SessionMark::new("4733683260", day.from(), Session::Am);
    (mark.id, mark.comment, mark.code) =
        (Some("77001".into()), Some("has the flu".into()), Some("Amelia is ill".into()));
    let mut school = FakeSchool::new();
    school.add(Record::SessionMark(mark));
    for is_masked in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let saving = save(folder.path(), school.clone());
        let saving = saving.with_masking(is_masked);
        read(&saving, day, false).await.unwrap();
        let replay = ReplaySource::open(folder.path()).unwrap();
        assert!(replay.capabilities().gives_session_marks);
        let kept = read(&replay, day, true).await.unwrap();
        let text = serde_json::to_string(&kept).unwrap();
        for secret in ["4733683260", "77001", "flu", "Amelia"] {
            assert_eq!(text.contains(secret), !is_masked, "{secret}");
        }
        assert_eq!(kept == school.records().collect::<Vec<_>>(), !is_masked);
    }
}

#[tokio::test]
async fn a_roll_gives_no_masked_student_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut school = FakeSchool::new();
    let roll: Vec<String> = (1..=30).map(|number| format!("47336832{number:02}")).collect();
    for (number, student) in (100..).zip(&roll) {
        let mut row = school.registration(&number.to_string(), student, "2026-11-20T08:40:00");
        row.comment = Some(format!("{student} was here").into());
    }
    let saving = save(folder.path(), school).with_masking(true);
    let day = window("2026-11-20", "2026-11-20");
    read(&saving, day, false).await.unwrap();
    let mut rows: Vec<Registration> = read(&ReplaySource::open(folder.path()).unwrap(), day, false)
        .await
        .unwrap()
        .into_iter()
        .filter_map(|record| match record {
            Record::Registration(row) => Some(row),
            _ => None,
        })
        .collect();
    let on_the_roll: Vec<StudentId> =
        roll.iter().map(|id| saving.masked_student(&id.as_str().into()).unwrap()).collect();
    let students = |rows: &[Registration]| rows.iter().map(|row| row.student.clone()).collect::<Vec<_>>();
    assert_ne!(students(&rows), on_the_roll, "as they stand in the file");
    rows.sort_by_key(|row| row.student.clone());
    assert_ne!(students(&rows), on_the_roll, "by their numbers");
    rows.sort_by_key(|row| row.id.as_ref().unwrap().as_str().parse::<u32>().unwrap());
    assert_ne!(students(&rows), on_the_roll, "by their rows' ids");
    rows.sort_by_key(|row| row.comment.clone());
    assert_ne!(students(&rows), on_the_roll, "by their comments");
}

#[tokio::test]
async fn free_text_in_flags_and_codes_is_masked_and_what_the_school_s_tables_know_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    for (number, flag) in ["am", "Pm", "with Mrs Jones", "sports hall"].into_iter().enumerate() {
        school.period(&number.to_string(), "2026-11-20T08:40:00", Some(flag));
    }
    for (number, code) in ["9", "I", "Amelia is ill", "9 Ben", "!"].into_iter().enumerate() {
        school.registration(&number.to_string(), &number.to_string(), "2026-11-20T08:40:00").absent(code);
    }
    read(&save(folder.path(), school).with_masking(true), window("2026-11-20", "2026-11-20"), true).await.unwrap();
    let kept = read(&ReplaySource::open(folder.path()).unwrap(), window("2026-11-20", "2026-11-20"), true).await;
    let (mut flags, mut codes) = (Vec::new(), Vec::new());
    for record in kept.unwrap() {
        match record {
            Record::Period(period) => flags.push(period.session.unwrap().into_string()),
            Record::Registration(row) => codes.push(row.code.unwrap().to_string()),
            _ => {}
        }
    }
    flags.sort();
    codes.sort();
    assert_eq!(flags, ["Pm", "am", "am  unknown 00000001", "am  unknown 00000002"]);
    assert_eq!(codes, ["!unknown 00000001", "9", "9  unknown 00000002", "9  unknown 00000003", "I"]);
}

/// Two fetches' kept replies of different days.
async fn kept_twice(folder: &Path) {
    let saving = save(folder, FakeSchool::demo("2026-11-20".parse().unwrap()));
    for day in ["2026-11-19", "2026-11-20"] {
        read(&saving, window(day, day), false).await.unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn altered_and_endless_files_are_refused() {
    let day = window("2026-11-20", "2026-11-20");
    let replaced = |folder: &Path, name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(folder.join(name), text.replacen(from, to, 1)).unwrap();
    };
    let in_its_place = |folder: &Path, name: &str, program: &str, arguments: &[&str]| {
        std::fs::remove_file(folder.join(name)).unwrap();
        assert!(Command::new(program).args(arguments).arg(folder.join(name)).status().unwrap().success());
    };
    const MANIFEST: &str = "replies-2.json";
    const RECORDS: &str = "replies-2.records.jsonl";
    type Alteration<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
    let alterations: Vec<Alteration<'_>> = vec![
        ("a count", Box::new(|folder| replaced(folder, MANIFEST, "\"records\": ", "\"records\": 1"))),
        ("a part's rows", Box::new(|folder| replaced(folder, MANIFEST, "\"rows\": ", "\"rows\": 1"))),
        ("the time of the fetch", Box::new(|folder| replaced(folder, MANIFEST, "2026-11-20T18", "2026-11-20T17"))),
        ("the cache", Box::new(|folder| replaced(folder, MANIFEST, "\"cache_seconds\": 0", "\"cache_seconds\": -9"))),
        ("half a manifest", Box::new(|folder| std::fs::write(folder.join(MANIFEST), "{").unwrap())),
        ("a pipe as manifest", Box::new(|folder| in_its_place(folder, MANIFEST, "mkfifo", &[]))),
        ("a device as manifest", Box::new(|folder| in_its_place(folder, MANIFEST, "ln", &["-s", "/dev/zero"]))),
        ("a status", Box::new(|folder| replaced(folder, RECORDS, "\"registered\":true", "\"registered\":false"))),
        ("a year", Box::new(|folder| replaced(folder, RECORDS, "2026-11-20T08:40:00", "+262142-11-20T08:40:00"))),
        ("no time", Box::new(|folder| replaced(folder, RECORDS, "T08:40:00", ""))),
        ("an empty line", Box::new(|folder| replaced(folder, RECORDS, "\n", "\n\n"))),
        (
            "a line without an end",
            Box::new(|folder| std::fs::write(folder.join(RECORDS), vec![b'['; 40 << 20]).unwrap()),
        ),
        ("no records", Box::new(|folder| std::fs::write(folder.join(RECORDS), "").unwrap())),
        ("a pipe as records", Box::new(|folder| in_its_place(folder, RECORDS, "mkfifo", &[]))),
        ("a device as records", Box::new(|folder| in_its_place(folder, RECORDS, "ln", &["-s", "/dev/zero"]))),
        (
            "another fetch's records",
            Box::new(|folder| {
                std::fs::copy(folder.join("replies-1.records.jsonl"), folder.join(RECORDS)).unwrap();
            }),
        ),
    ];
    for (what, alter) in alterations {
        let folder = tempfile::tempdir().unwrap();
        kept_twice(folder.path()).await;
        alter(folder.path());
        let read = match ReplaySource::open(folder.path()) {
            Ok(replay) => read(&replay, day, false).await.map(drop),
            Err(error) => Err(error),
        };
        let error = read.expect_err(what).to_string();
        assert!(error.contains("is damaged") || error.contains("not a regular file"), "{what}: {error}");
        assert!(error.contains("replies-2"), "{what}: {error}");
    }
}

#[tokio::test]
async fn what_a_dead_run_left_is_removed_and_what_a_live_one_writes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let left = ["replies-1.records.jsonl.4711.part", "replies-1.json.4711.part", "replies-1.records.jsonl"];
    for name in left.into_iter().chain(["replies-notes.txt"]) {
        std::fs::write(folder.path().join(name), "half a li").unwrap();
    }
    let saving = save(folder.path(), school());
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(), ["replies-notes.txt".to_owned()].into());
    let day = window("2026-11-20", "2026-11-20");
    let stream = saving.fetch(&FetchRequest::new(day)).await.unwrap();
    assert_eq!(names().len(), 2);
    let _another = save(folder.path(), school());
    assert_eq!(names().len(), 2, "a live run's file is gone");
    stream.for_each(|item| async { drop(item.unwrap()) }).await;
    let complete = ["replies-1.json", "replies-1.records.jsonl", "replies-notes.txt"].map(str::to_owned);
    assert_eq!(names(), complete.into());
    read(&ReplaySource::open(folder.path()).unwrap(), day, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_while_it_saves_does_not_block_the_next() {
    let parent = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let (url, key) = (simulator.url(), simulator.api_key());
    let command = |folder: &Path| {
        let mut command = rollmark("sync");
        command.args(["--url", &url, "--today", "2026-11-20", "--save-replies"]).arg(folder);
        command.env("ISAMS_API_KEY", &key).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    for round in 0..12 {
        let folder = parent.path().join(round.to_string());
        let mut running = command(&folder).spawn().unwrap();
        // The moment is meant to be any.
        std::thread::sleep(std::time::Duration::from_millis(round * 8));
        let _ = running.kill();
        running.wait().unwrap();
        if ReplaySource::open(&folder).is_ok() {
            continue;
        }
        assert!(command(&folder).status().unwrap().success(), "round {round}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "round {round}");
    }
}
