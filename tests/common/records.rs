//! Made-up records of any kind, for properties.

use chrono::NaiveTime;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rollmark::model::{
    Code, FeedTime, OutOfSchool, Record, RecordId, Registration, RegistrationPeriod, Session, SessionMark,
};
use rollmark::rules::{PmRule, Rules, TieBreak};

/// The two dates in the middle are the window; the clocks go forward on the second.
pub const DATES: [&str; 4] = ["2026-03-27", "2026-03-28", "2026-03-29", "2026-03-30"];
pub const TIMES: [&str; 5] = ["T00:00:00", "T08:40:00", "T12:00:00", "T13:30:00", "T13:30:00+01:00"];
pub const STAMPS: [&str; 4] =
    ["2026-03-28T09:00:00", "2026-03-28T09:00:00Z", "2026-03-29T01:30:00", "2026-03-30T12:00:00.5Z"];

pub fn time(text: &str) -> FeedTime {
    text.parse().unwrap()
}

pub fn a_time() -> impl Strategy<Value = FeedTime> {
    (select(&DATES[..]), select(&TIMES[..])).prop_map(|(date, clock)| time(&format!("{date}{clock}")))
}

pub fn a_time_or_date() -> impl Strategy<Value = FeedTime> {
    prop_oneof![3 => a_time(), 1 => select(&DATES[..]).prop_map(time)]
}

pub fn a_stamp() -> impl Strategy<Value = Option<FeedTime>> {
    option::weighted(0.8, select(&STAMPS[..]).prop_map(time))
}

pub fn an_id() -> impl Strategy<Value = Option<RecordId>> {
    option::weighted(0.8, select(&["7", "07", "10", "x1"][..]).prop_map(RecordId::from))
}

pub fn a_registration() -> impl Strategy<Value = Record> {
    let row = (select(&["1", "2", "3"][..]), a_time(), any::<bool>(), any::<bool>());
    let period = option::weighted(0.9, select(&["0-0", "1-0", "1-1", "2-0", "2-1", "2-2", "lost"][..]));
    let code = option::of(select(&["17", "V", "99"][..]));
    (an_id(), row, period, code, a_stamp()).prop_map(
        |(id, (student, at, registered, late), period, code, last_updated)| {
            Record::Registration({
                let mut record = Registration::new(student, at);
                record.id = id;
                record.registered = registered;
                record.late = late;
                record.period = period.map(Into::into);
                record.code = code.map(Into::into);
                record.last_updated = last_updated;
                record
            })
        },
    )
}

pub fn an_out_of_school_record() -> impl Strategy<Value = OutOfSchool> {
    let span = (a_time_or_date(), option::weighted(0.8, a_time_or_date()));
    let code = option::of(select(&["17", "2", "99"][..]));
    (an_id(), select(&["1", "2", "3"][..]), span, code, a_stamp()).prop_map(
        |(id, student, (from, to), code, last_updated)| {
            let mut record = OutOfSchool::new(student, from, to);
            record.id = id;
            record.code = code.map(Into::into);
            record.last_updated = last_updated;
            record
        },
    )
}

/// For each date up to three registers, each with its flag.
pub fn periods() -> impl Strategy<Value = Vec<Record>> {
    let flag = select(&["am", "PM", "", "lunch"][..]);
    let register = option::weighted(0.8, (a_time(), flag));
    prop::collection::vec(prop::collection::vec(register, 3), 3).prop_map(|dates| {
        let mut periods = Vec::new();
        for (day, registers) in dates.into_iter().enumerate() {
            for (number, (at, flag)) in registers.into_iter().enumerate().filter_map(|(at, it)| Some((at, it?))) {
                periods.push(Record::Period({
                    let mut period = RegistrationPeriod::new(format!("{day}-{number}"), at);
                    period.session = (!flag.is_empty()).then(|| flag.into());
                    period
                }));
            }
        }
        periods
    })
}

pub fn codes() -> impl Strategy<Value = Vec<Record>> {
    let code = (select(&["17", "2", "3"][..]), select(&["M", "V"][..]), any::<bool>());
    prop::collection::vec(code, 0..4).prop_map(|codes| {
        let code = |(id, letter, absence): (&str, &str, bool)| Record::Code(Code::new(id, absence).with_letter(letter));
        codes.into_iter().map(code).collect()
    })
}

pub fn records() -> impl Strategy<Value = Vec<Record>> {
    let rows = prop::collection::vec(a_registration(), 0..24);
    let spans = prop::collection::vec(an_out_of_school_record().prop_map(Record::OutOfSchool), 0..8);
    (codes(), periods(), rows, spans).prop_map(|(codes, periods, rows, spans)| [codes, periods, rows, spans].concat())
}

pub fn a_session_mark() -> impl Strategy<Value = Record> {
    let place = (select(&["1", "2", "3"][..]), select(&DATES[..]), select(&Session::BOTH[..]));
    let code = option::of(select(&["17", "V", "99"][..]));
    (an_id(), place, any::<(bool, bool)>(), code, a_stamp()).prop_map(
        |(id, (student, date, session), (present, late), code, last_updated)| {
            let mut mark = SessionMark::new(student, date.parse().unwrap(), session);
            (mark.id, mark.present, mark.late, mark.last_updated) = (id, present, late, last_updated);
            mark.code = code.map(Into::into);
            Record::SessionMark(mark)
        },
    )
}

/// What a source of session marks gives; the out-of-school records are there to decide nothing.
pub fn session_marks() -> impl Strategy<Value = Vec<Record>> {
    let marks = prop::collection::vec(a_session_mark(), 0..24);
    let spans = prop::collection::vec(an_out_of_school_record().prop_map(Record::OutOfSchool), 0..4);
    (codes(), marks, spans).prop_map(|(codes, marks, spans)| [codes, marks, spans].concat())
}

pub fn rules() -> impl Strategy<Value = Rules> {
    let by_time =
        select(&[12, 13][..]).prop_map(|hour| PmRule::FirstFrom(NaiveTime::from_hms_opt(hour, 0, 0).unwrap()));
    let pm = prop_oneof![by_time, Just(PmRule::RegistrationPeriods)];
    (pm, select(&[TieBreak::OutOfSchool, TieBreak::Registration][..]))
        .prop_map(|(pm, tie)| Rules::new("Europe/London".parse().unwrap()).with_pm(pm).with_tie_break(tie))
}
