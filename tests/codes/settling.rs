use chrono::{DateTime, TimeDelta, Utc};
use rollmark::codes::{Settling, SettlingPolicy, UnsettledReason};
use rollmark::model::{Mark, Session, StudentId};
use rollmark::rules::{Resolver, Rules, Window};
use rollmark::testing::FakeSchool;

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The AM mark of a school of one row, at 08:40 in school time, which is UTC in November.
fn mark(edit: impl FnOnce(&mut FakeSchool)) -> Mark {
    let mut school = FakeSchool::new();
    school.code("1", "N", "No reason yet", true);
    school.code("2", "M", "Medical", true);
    school.registration("100", "1", "2026-11-20T08:40:00");
    edit(&mut school);
    let date = "2026-11-20".parse().unwrap();
    let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), Window::day(date));
    resolver.extend(school.records());
    resolver.finish().unwrap().mark(&StudentId::new("1"), date, Session::Am).unwrap()
}

fn saved(edit: impl FnOnce(&mut rollmark::testing::RegistrationBuilder<'_>)) -> Mark {
    mark(|school| {
        let mut row = school.registration_mut("100").unwrap();
        edit(&mut row);
        row.updated("2026-11-20T08:52:00");
    })
}

fn policy() -> SettlingPolicy {
    SettlingPolicy::new("Europe/London".parse().unwrap())
}

fn settling(mark: &Mark, as_of: &str, now: &str) -> Settling {
    Settling::of(mark, instant(as_of), instant(now), &policy())
}

fn unsettled(reason: UnsettledReason, until: Option<&str>) -> Settling {
    Settling::Unsettled { reason, until: until.map(instant) }
}

const LATER: &str = "2026-11-21T18:00:00Z";

#[test]
fn a_register_that_was_not_taken_never_settles_by_itself() {
    assert_eq!(settling(&mark(|_| ()), LATER, LATER), unsettled(UnsettledReason::NotTaken, None));
}

#[test]
fn an_unexplained_absence_waits_from_the_time_of_its_register() {
    for unexplained in [
        saved(|row| {
            row.absent("1");
        }),
        // Unknown to the school's table.
        saved(|row| {
            row.absent("77");
        }),
    ] {
        let until = unsettled(UnsettledReason::Unexplained, Some("2026-11-21T08:40:00Z"));
        assert_eq!(settling(&unexplained, LATER, "2026-11-21T08:39:59Z"), until);
        assert_eq!(settling(&unexplained, LATER, "2026-11-21T08:40:00Z"), Settling::Settled);
        let off = policy().with_unexplained_for(TimeDelta::zero());
        assert_eq!(
            Settling::of(&unexplained, instant(LATER), instant("2026-11-20T10:00:00Z"), &off),
            Settling::Settled
        );
    }
    let explained = saved(|row| {
        row.absent("2");
    });
    assert_eq!(settling(&explained, "2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"), Settling::Settled);
}

#[test]
fn a_mark_that_was_saved_just_now_is_too_fresh() {
    let present = saved(|row| {
        row.present();
    });
    let until = unsettled(UnsettledReason::TooFresh, Some("2026-11-20T09:12:00Z"));
    assert_eq!(settling(&present, LATER, "2026-11-20T09:11:59Z"), until);
    assert_eq!(settling(&present, LATER, "2026-11-20T09:12:00Z"), Settling::Settled);
    let off = policy().with_min_age(TimeDelta::zero());
    assert_eq!(Settling::of(&present, instant(LATER), instant("2026-11-20T08:52:00Z"), &off), Settling::Settled);
}

#[test]
fn a_reply_that_can_be_older_than_the_register_settles_nothing() {
    let present = saved(|row| {
        row.present();
    });
    assert_eq!(settling(&present, "2026-11-20T08:39:59Z", LATER), unsettled(UnsettledReason::ReplyMayBeOld, None));
    assert_eq!(settling(&present, "2026-11-20T08:40:00Z", LATER), Settling::Settled);
}

#[test]
fn without_a_registration_an_unexplained_absence_waits_from_the_end_of_the_date() {
    let away = mark(|school| {
        school.remove_registrations(|_| true);
        // Somebody else's register shows that there was school.
        school.registration("200", "2", "2026-11-20T08:40:00");
        let mut record = school.out_of_school("901", "1", "2026-11-20T08:00:00", "2026-11-20T12:00:00");
        record.coded("1").updated("2026-11-20T08:00:00");
    });
    let until = unsettled(UnsettledReason::Unexplained, Some("2026-11-22T00:00:00Z"));
    assert_eq!(settling(&away, "2026-11-19T00:00:00Z", "2026-11-21T23:59:59Z"), until);
    assert_eq!(settling(&away, "2026-11-19T00:00:00Z", "2026-11-22T00:00:00Z"), Settling::Settled);
}
