use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use proptest::prelude::*;
use rollmark::model::{Record, Registration, Session, StudentId};
use rollmark::rules::{PmRule, Resolver, Rules, Scope, UntakenRegister, Window};
use rollmark::testing::FakeSchool;

fn date() -> NaiveDate {
    "2026-11-20".parse().unwrap()
}

fn rules(pm: PmRule) -> Rules {
    Rules::new("Europe/London".parse().unwrap()).with_pm(pm)
}

/// Rows of a few students, in registers that can share a time or a period, in any order, some twice.
fn rows() -> impl Strategy<Value = Vec<Registration>> {
    let row = (0..4_u8, 0..4_usize, prop::option::of(0..4_u8), any::<bool>(), prop::option::of(0..4_u8), 0..30_u32);
    let row = row.prop_map(|(student, at, period, taken, stamp, id)| {
        let at = ["08:40:00", "10:05:00", "13:30:00", "14:20:00"][at];
        let mut row = Registration::new(format!("s{student}"), format!("2026-11-20T{at}").parse().unwrap());
        row.registered = taken;
        row.period = period.map(|period| format!("p{period}").into());
        row.last_updated = stamp.map(|minute| format!("2026-11-20T15:0{minute}:00").parse().unwrap());
        row.id = Some(id.to_string().into());
        row
    });
    prop::collection::vec(row, 0..40)
}

/// p0 is AM, p1 is PM, p2 is a lesson; p3 is not in the list.
fn periods() -> impl Iterator<Item = Record> {
    let mut school = FakeSchool::new();
    school.period("p0", "2026-11-20T08:40:00", Some("am"));
    school.period("p1", "2026-11-20T13:30:00", Some("pm"));
    school.period("p2", "2026-11-20T10:05:00", None);
    school.records().collect::<Vec<_>>().into_iter()
}

/// Time, period, session, rows that are not taken, students.
type Line = (String, Option<String>, Option<Session>, u64, u64);

/// The same from the rules, slowly.
fn slowly(rows: &[Registration], pm: PmRule) -> Vec<Line> {
    let time = |row: &Registration| row.at.to_string()[11..].to_owned();
    let period = |row: &Registration| row.period.as_ref().map(ToString::to_string);
    // R4: last updated, taken over not taken, then the id by value.
    let better = |row: &&Registration| (row.last_updated.map(|stamp| stamp.to_string()), row.registered, number(row));
    let session = |row: &Registration| match pm {
        PmRule::RegistrationPeriods => match period(row).as_deref() {
            Some("p0") => Some(Session::Am),
            Some("p1") => Some(Session::Pm),
            _ => None,
        },
        _ if *time(row) < *"12:00" => Some(Session::Am),
        _ => Some(Session::Pm),
    };
    let students: BTreeSet<&StudentId> = rows.iter().map(|row| &row.student).collect();
    let mut session_registers = BTreeMap::new();
    for student in &students {
        for wanted in Session::BOTH {
            let own = rows.iter().filter(|row| row.student == **student && session(row) == Some(wanted));
            let Some(first) = own.clone().map(time).min() else { continue };
            let picked = own.filter(|row| time(row) == first).max_by_key(better).unwrap();
            session_registers.entry((time(picked), period(picked))).or_insert(wanted);
        }
    }
    let registers: BTreeSet<_> = rows.iter().map(|row| (time(row), period(row))).collect();
    let mut found = Vec::new();
    for register in registers {
        let mut not_taken = 0;
        let mut all = 0;
        for student in &students {
            let own = rows.iter().filter(|row| row.student == **student && (time(row), period(row)) == register);
            let Some(winner) = own.max_by_key(better) else { continue };
            all += 1;
            not_taken += u64::from(!winner.registered);
        }
        if not_taken > 0 {
            let session = session_registers.get(&register).copied();
            found.push((register.0, register.1, session, not_taken, all));
        }
    }
    found
}

fn number(row: &Registration) -> u32 {
    row.id.as_ref().unwrap().as_str().parse().unwrap()
}

fn shown(register: UntakenRegister) -> Line {
    let period = register.period.map(|period| period.to_string());
    (register.at.to_string(), period, register.session, register.not_taken, register.students)
}

proptest! {
    #[test]
    fn registers_that_are_not_taken_are_those_of_a_slow_calculation(mut rows in rows()) {
        // Rows of equal rank would need R4's last step, which the rules' own tests cover.
        let mut known = BTreeSet::new();
        rows.retain(|row| known.insert((row.student.clone(), number(row))));
        for pm in [PmRule::first_from(12, 0).unwrap(), PmRule::RegistrationPeriods] {
            let mut resolver = Resolver::new(rules(pm), Window::day(date())).with_registers_of([date()]);
            resolver.extend(rows.iter().cloned().map(Record::Registration).chain(periods()));
            let found = resolver.finish().unwrap().not_taken(date()).unwrap();
            prop_assert_eq!(found.into_iter().map(shown).collect::<Vec<_>>(), slowly(&rows, pm));
        }
    }
}

#[test]
fn only_registers_that_were_asked_for_are_known() {
    let register = Resolver::new(rules(PmRule::default()), Window::day(date())).finish().unwrap();
    assert_eq!(register.not_taken(date()), None);
}

#[test]
fn a_closed_school_and_students_out_of_scope_have_no_registers_to_take() {
    let mut school = FakeSchool::new();
    school.registration("1", "s1", "2026-11-20T08:40:00");
    school.registration("2", "s2", "2026-11-20T08:40:00");
    let not_taken = |resolver: Resolver| {
        let mut resolver = resolver.with_registers_of([date()]);
        resolver.extend(school.records());
        resolver.finish().unwrap().not_taken(date()).unwrap()
    };
    let all = Resolver::new(rules(PmRule::default()), Window::day(date()));
    assert_eq!(not_taken(all.clone())[0].students, 2);
    assert!(not_taken(all.with_closed_dates([date()])).is_empty());
    let one = Scope::all(Window::day(date())).with_students(["s1"]);
    assert_eq!(not_taken(Resolver::new(rules(PmRule::default()), one))[0].students, 1);
}
