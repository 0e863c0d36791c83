//! What holds for the rules whatever a school's records are.

use crate::common::records::*;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use rollmark::model::{Issues, Mark, Record, Status};
use rollmark::rules::{Register, ResolveError, Resolver, Rules, Scope, Window};

fn scope() -> impl Strategy<Value = Scope> {
    any::<bool>().prop_map(|is_named| {
        let window = Window::between(DATES[1].parse().unwrap(), DATES[2].parse().unwrap()).unwrap();
        let all = Scope::all(window.with_today(DATES[2].parse().unwrap()));
        if is_named { all.with_students(["1", "2"]) } else { all }
    })
}

fn register(rules: Rules, scope: &Scope, records: &[Record]) -> Result<Register, ResolveError> {
    let mut resolver = Resolver::new(rules, scope.clone());
    records.iter().cloned().for_each(|record| resolver.push(record));
    resolver.finish()
}

fn outcome(rules: Rules, scope: &Scope, records: &[Record]) -> Result<(Vec<Mark>, Issues), ResolveError> {
    register(rules.clone(), scope, records).map(|register| (register.marks().collect(), register.issues().clone()))
}

fn stamp_of(mark: &Mark) -> Option<DateTime<Utc>> {
    mark.last_updated()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_the_order_of_arrival_nor_a_repeat_shows(
        (rules, scope) in (rules(), scope()),
        (records, shuffled) in prop_oneof![2 => records(), 1 => session_marks()].prop_flat_map(|records| {
            let twice = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
            (Just(records), twice)
        }).prop_flat_map(|(records, twice)| {
            let repeated = twice.iter().filter(|_| !records.is_empty()).map(|at| at.get(&records).clone());
            let sent: Vec<Record> = records.iter().cloned().chain(repeated).collect();
            (Just(records), Just(sent).prop_shuffle())
        }),
    ) {
        prop_assert_eq!(outcome(rules.clone(), &scope, &records), outcome(rules.clone(), &scope, &shuffled));
    }

    #[test]
    fn every_mark_is_in_scope_and_has_its_place_once((rules, scope, records) in (rules(), scope(), records())) {
        if let Ok((marks, _)) = outcome(rules.clone(), &scope, &records) {
            prop_assert!(marks.iter().all(|mark| scope.contains(&mark.student, mark.date)));
            prop_assert!(marks.is_sorted_by(|a, b| a.key() < b.key()));
        }
    }

    #[test]
    fn registrations_and_periods_outside_the_window_change_nothing(
        (rules, scope, records) in (rules(), scope(), records()),
    ) {
        let inside: Vec<Record> = records.iter().filter(|record| match record {
            Record::Registration(row) => scope.window().contains(row.at.school_time(rules.zone()).date()),
            Record::Period(period) => scope.window().contains(period.at.school_time(rules.zone()).date()),
            _ => true,
        }).cloned().collect();
        prop_assert_eq!(outcome(rules.clone(), &scope, &records), outcome(rules.clone(), &scope, &inside));
    }

    #[test]
    fn naming_students_changes_none_of_their_marks((rules, scope, records) in (rules(), scope(), records())) {
        let everybody = Scope::all(scope.window());
        if let (Ok((named, _)), Ok((all, _))) = (outcome(rules.clone(), &scope, &records), outcome(rules.clone(), &everybody, &records)) {
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
        let added = late_comer.with_id("new").with_last_updated(older);
        let with_it = [records.clone(), vec![Record::OutOfSchool(added)]].concat();
        let before = register(rules.clone(), &scope, &records);
        let after = register(rules.clone(), &scope, &with_it);
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
        if let Ok((marks, _)) = outcome(rules.clone(), &scope, &records) {
            for mark in marks {
                let candidates = mark.decision.losers.iter().filter(|loser| !matches!(loser.why, Duplicate | NotTaken));
                for loser in candidates {
                    prop_assert!(loser.record.last_updated <= stamp_of(&mark));
                }
            }
        }
    }

    #[test]
    fn every_mark_of_session_marks_is_decided_by_one_of_its_own_session(
        (rules, scope, records) in (rules(), scope(), session_marks()),
    ) {
        use rollmark::model::{DecisionRule, LoserReason, RecordKind};
        let is_place = |mark: &Mark| {
            records.iter().any(|record| matches!(record, Record::SessionMark(given)
                if (&given.student, given.date, given.session) == mark.key()))
        };
        let (marks, issues) = outcome(rules, &scope, &records).unwrap();
        let mut losers = 0;
        for mark in &marks {
            prop_assert!(is_place(mark));
            prop_assert_eq!(mark.decision.winner.kind, RecordKind::SessionMark);
            prop_assert_eq!(mark.decision.rule, DecisionRule::OnlyCandidate);
            prop_assert!(mark.decision.losers.iter().all(|loser| loser.why == LoserReason::Duplicate));
            losers += mark.decision.losers.len() as u64 + mark.decision.more_losers;
        }
        prop_assert_eq!(issues.count(rollmark::model::Issue::DuplicateRegistration), losers);
    }
}
