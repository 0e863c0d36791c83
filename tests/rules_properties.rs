//! What holds for the rules whatever a school's records are.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveTime, Utc};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rollmark::model::{
    Code, FeedTime, Issues, Mark, OutOfSchool, Record, RecordId, Registration, RegistrationPeriod, Status,
};
use rollmark::rules::{PmRule, Register, ResolveError, Resolver, Rules, Scope, TieBreak, Window};

/// The two dates in the middle are the window; the clocks go forward on the second.
const DATES: [&str; 4] = ["2026-03-27", "2026-03-28", "2026-03-29", "2026-03-30"];
const TIMES: [&str; 5] = ["T00:00:00", "T08:40:00", "T12:00:00", "T13:30:00", "T13:30:00+01:00"];
const STAMPS: [&str; 4] =
    ["2026-03-28T09:00:00", "2026-03-28T09:00:00Z", "2026-03-29T01:30:00", "2026-03-30T12:00:00.5Z"];

fn time(text: &str) -> FeedTime {
    text.parse().unwrap()
}

fn a_time() -> impl Strategy<Value = FeedTime> {
    (select(&DATES[..]), select(&TIMES[..])).prop_map(|(date, clock)| time(&format!("{date}{clock}")))
}

fn a_time_or_date() -> impl Strategy<Value = FeedTime> {
    prop_oneof![3 => a_time(), 1 => select(&DATES[..]).prop_map(time)]
}

fn a_stamp() -> impl Strategy<Value = Option<FeedTime>> {
    option::weighted(0.8, select(&STAMPS[..]).prop_map(time))
}

fn an_id() -> impl Strategy<Value = Option<RecordId>> {
    option::weighted(0.8, select(&["7", "07", "10", "x1"][..]).prop_map(RecordId::from))
}

fn a_registration() -> impl Strategy<Value = Record> {
    let row = (select(&["1", "2", "3"][..]), a_time(), any::<bool>(), any::<bool>());
    let period = option::weighted(0.9, select(&["0-0", "1-0", "1-1", "2-0", "2-1", "2-2", "lost"][..]));
    let code = option::of(select(&["17", "V", "99"][..]));
    (an_id(), row, period, code, a_stamp()).prop_map(
        |(id, (student, at, registered, late), period, code, last_updated)| {
            Record::Registration(Registration {
                id,
                registered,
                late,
                period: period.map(Into::into),
                code: code.map(Into::into),
                last_updated,
                ..Registration::new(student, at)
            })
        },
    )
}

fn an_out_of_school_record() -> impl Strategy<Value = OutOfSchool> {
    let span = (a_time_or_date(), option::weighted(0.8, a_time_or_date()));
    let code = option::of(select(&["17", "2", "99"][..]));
    (an_id(), select(&["1", "2", "3"][..]), span, code, a_stamp()).prop_map(
        |(id, student, (from, to), code, last_updated)| OutOfSchool {
            id,
            code: code.map(Into::into),
            last_updated,
            ..OutOfSchool::new(student, from, to)
        },
    )
}

/// For each date up to three registers, each with its flag.
fn periods() -> impl Strategy<Value = Vec<Record>> {
    let flag = select(&["am", "PM", "", "lunch"][..]);
    let register = option::weighted(0.8, (a_time(), flag));
    prop::collection::vec(prop::collection::vec(register, 3), 3).prop_map(|dates| {
        let mut periods = Vec::new();
        for (day, registers) in dates.into_iter().enumerate() {
            for (number, (at, flag)) in registers.into_iter().enumerate().filter_map(|(at, it)| Some((at, it?))) {
                periods.push(Record::Period(RegistrationPeriod {
                    id: format!("{day}-{number}").as_str().into(),
                    at,
                    session: (!flag.is_empty()).then(|| flag.into()),
                    name: None,
                    unreadable: Vec::new(),
                }));
            }
        }
        periods
    })
}

fn codes() -> impl Strategy<Value = Vec<Record>> {
    let code = (select(&["17", "2", "3"][..]), select(&["M", "V"][..]), any::<bool>());
    prop::collection::vec(code, 0..4).prop_map(|codes| {
        let code = |(id, letter, absence): (&str, &str, bool)| {
            Record::Code(Code {
                id: id.into(),
                letter: Some(letter.into()),
                name: None,
                absence,
                active: true,
                unreadable: Vec::new(),
            })
        };
        codes.into_iter().map(code).collect()
    })
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let rows = prop::collection::vec(a_registration(), 0..24);
    let spans = prop::collection::vec(an_out_of_school_record().prop_map(Record::OutOfSchool), 0..8);
    (codes(), periods(), rows, spans).prop_map(|(codes, periods, rows, spans)| [codes, periods, rows, spans].concat())
}

fn rules() -> impl Strategy<Value = Rules> {
    let by_time =
        select(&[12, 13][..]).prop_map(|hour| PmRule::FirstFrom(NaiveTime::from_hms_opt(hour, 0, 0).unwrap()));
    let pm = prop_oneof![by_time, Just(PmRule::RegistrationPeriods)];
    (pm, select(&[TieBreak::OutOfSchool, TieBreak::Registration][..]))
        .prop_map(|(pm, tie)| Rules::new(chrono_tz::Europe::London).pm(pm).tie_break(tie))
}

fn scope() -> impl Strategy<Value = Scope> {
    option::of(Just(BTreeSet::from(["1".into(), "2".into()]))).prop_map(|students| {
        let window = Window::between(DATES[1].parse().unwrap(), DATES[2].parse().unwrap()).unwrap();
        Scope { window: window.with_today(DATES[2].parse().unwrap()), students }
    })
}

fn register(rules: Rules, scope: &Scope, records: &[Record]) -> Result<Register, ResolveError> {
    let mut resolver = Resolver::new(rules, scope.clone());
    records.iter().cloned().for_each(|record| resolver.push(record));
    resolver.finish()
}

fn outcome(rules: Rules, scope: &Scope, records: &[Record]) -> Result<(Vec<Mark>, Issues), ResolveError> {
    register(rules, scope, records).map(|register| (register.marks().collect(), register.issues().clone()))
}

fn stamp_of(mark: &Mark) -> Option<DateTime<Utc>> {
    mark.last_updated()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_the_order_of_arrival_nor_a_repeat_shows(
        (rules, scope) in (rules(), scope()),
        (records, shuffled) in records().prop_flat_map(|records| {
            let twice = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
            (Just(records), twice)
        }).prop_flat_map(|(records, twice)| {
            let repeated = twice.iter().filter(|_| !records.is_empty()).map(|at| at.get(&records).clone());
            let sent: Vec<Record> = records.iter().cloned().chain(repeated).collect();
            (Just(records), Just(sent).prop_shuffle())
        }),
    ) {
        prop_assert_eq!(outcome(rules, &scope, &records), outcome(rules, &scope, &shuffled));
    }

    #[test]
    fn every_mark_is_in_scope_and_has_its_place_once((rules, scope, records) in (rules(), scope(), records())) {
        if let Ok((marks, _)) = outcome(rules, &scope, &records) {
            prop_assert!(marks.iter().all(|mark| scope.contains(&mark.student, mark.date)));
            prop_assert!(marks.is_sorted_by(|a, b| a.key() < b.key()));
        }
    }

    #[test]
    fn registrations_and_periods_outside_the_window_change_nothing(
        (rules, scope, records) in (rules(), scope(), records()),
    ) {
        let inside: Vec<Record> = records.iter().filter(|record| match record {
            Record::Registration(row) => scope.window.contains(row.at.school_time(rules.zone()).date()),
            Record::Period(period) => scope.window.contains(period.at.school_time(rules.zone()).date()),
            _ => true,
        }).cloned().collect();
        prop_assert_eq!(outcome(rules, &scope, &records), outcome(rules, &scope, &inside));
    }

    #[test]
    fn naming_students_changes_none_of_their_marks((rules, scope, records) in (rules(), scope(), records())) {
        let everybody = Scope::all(scope.window);
        if let (Ok((named, _)), Ok((all, _))) = (outcome(rules, &scope, &records), outcome(rules, &everybody, &records)) {
            let of_named: Vec<Mark> = all.into_iter().filter(|mark| scope.has_student(&mark.student)).collect();
            prop_assert_eq!(named, of_named);
        }
    }

    #[test]
    fn an_older_out_of_school_record_changes_no_mark_that_a_newer_record_decided(
        (rules, scope, records) in (rules(), scope(), records()),
        late_comer in an_out_of_school_record(),
    ) {
        let older = time("2026-03-28T08:00:00Z");
        let added = OutOfSchool { id: Some("new".into()), last_updated: Some(older), ..late_comer };
        let with_it = [records.clone(), vec![Record::OutOfSchool(added)]].concat();
        let before = register(rules, &scope, &records);
        let after = register(rules, &scope, &with_it);
        if let (Ok(before), Ok(after)) = (before, after) {
            for mark in before.marks() {
                let now = after.mark(&mark.student, mark.date, mark.session);
                prop_assert!(now.is_some(), "{} vanished", mark.student);
                let now = now.unwrap();
                // A register that nobody took yields, and so does a record without a stamp.
                if mark.status != Status::NotTaken && stamp_of(&mark) > Some(older.instant(rules.zone())) {
                    prop_assert_eq!((now.status, &now.code, &now.raw_code, now.minutes_late),
                        (mark.status, &mark.code, &mark.raw_code, mark.minutes_late));
                    prop_assert_eq!(&now.decision.winner, &mark.decision.winner);
                }
            }
        }
    }

    #[test]
    fn the_winner_is_no_older_than_any_candidate_that_says_something(
        (rules, scope, records) in (rules(), scope(), records()),
    ) {
        use rollmark::model::LoserReason::{Duplicate, NotTaken};
        if let Ok((marks, _)) = outcome(rules, &scope, &records) {
            for mark in marks {
                let candidates = mark.decision.losers.iter().filter(|loser| !matches!(loser.why, Duplicate | NotTaken));
                for loser in candidates {
                    prop_assert!(loser.record.last_updated <= stamp_of(&mark));
                }
            }
        }
    }
}
