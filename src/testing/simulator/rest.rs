//! The REST API of the simulator: today's periods and registers.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, FixedOffset, NaiveDate, Offset, TimeDelta, Utc};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Reply, State};
use crate::model::{FeedTime, OutOfSchool, PeriodId, RawCode, Registration, Zone};
use crate::testing::fake_source::shuffle;

pub(super) const PATH: &str = "/api/registration/";

/// A made-up school's own time zone.
static ZONE: LazyLock<Zone> = LazyLock::new(|| "Europe/London".parse().unwrap_or_else(|_| Zone::utc()));
/// The only division, by its id.
const DIVISION: u64 = 1;
/// How long a register stays open, in minutes.
const OPEN_FOR: TimeDelta = TimeDelta::minutes(20);
/// Records of a page where none are asked for (in use, verified).
const PAGE_SIZE: usize = 100;

pub(super) fn json(status: StatusCode, body: &Value) -> Reply {
    Reply { content_type: "application/json", ..Reply::xml(status, body.to_string()) }
}

pub(super) fn error(status: StatusCode, message: &str) -> Reply {
    json(status, &json!({ "message": message }))
}

/// Names in a path count without regard to case; those in the query are in lower case.
pub(super) fn answer(path: &str, query: &HashMap<String, String>, state: &State) -> Reply {
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    let (name, mut rows) = match parts[..] {
        [name] if is(name, "absencecodes") => ("absenceCodes", state.codes().iter().map(absence_code).collect()),
        [name] if is(name, "presentcodes") => ("presentCodes", vec![present_code()]),
        [name] if is(name, "periods") => match query.get("divisionid").map(|division| division.parse()) {
            None | Some(Ok(DIVISION)) => ("registrationPeriods", periods(state)),
            Some(Ok(_)) => ("registrationPeriods", Vec::new()),
            Some(Err(_)) => return error(StatusCode::BAD_REQUEST, "The division's id is not a number."),
        },
        [name, period] if is(name, "register") => match register(period, state) {
            Some(rows) => ("registrationStatuses", rows),
            None => return error(StatusCode::NOT_FOUND, "There is no such registration period today."),
        },
        // One of the student's records, by a choice of its own.
        [name, period, students, student] if is(name, "register") && is(students, "students") => {
            let of_student = |row: &Value| row["schoolId"] == student;
            return match register(period, state).and_then(|rows| rows.into_iter().find(of_student)) {
                Some(row) => json(StatusCode::OK, &row),
                None => error(StatusCode::NOT_FOUND, "There is no such student in this register."),
            };
        }
        _ => return error(StatusCode::NOT_FOUND, "There is no such resource."),
    };
    if let Some(seed) = state.shuffle {
        shuffle(&mut rows, seed);
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok()).filter(|number| *number > 0);
    let (page, size) = (number("page").unwrap_or(1), number("pagesize").unwrap_or(PAGE_SIZE));
    let (total, pages) = (rows.len(), rows.len().div_ceil(size).max(1));
    let rows: Vec<Value> = rows.into_iter().skip((page - 1).saturating_mul(size)).take(size).collect();
    let reply = json!({
        "count": rows.len(), "page": page, "pageSize": size, "totalCount": total, "totalPages": pages, name: rows,
    });
    json(StatusCode::OK, &reply)
}

/// Ids are numbers where they are made of digits.
fn id(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from)
}

fn absence_code(code: &crate::model::Code) -> Value {
    json!({
        "id": id(code.id.as_str()), "code": code.letter, "name": code.name, "description": code.name,
        "displayOrder": 1, "governmentCode": null, "governmentCodeName": null, "isOOSActive": true,
    })
}

fn present_code() -> Value {
    json!({ "id": 1, "code": "/", "name": "Present", "displayOrder": 1, "isOOCActive": false, "showOnRegister": true })
}

fn date_of(time: FeedTime) -> NaiveDate {
    time.school_time(&ZONE).date()
}

fn today(state: &State) -> Option<NaiveDate> {
    state.today.or_else(|| state.school.periods().iter().map(|period| date_of(period.at)).max())
}

fn in_zone(time: DateTime<Utc>) -> String {
    let offset = ZONE.wall_time(time).signed_duration_since(time.naive_utc()).num_seconds();
    let offset = i32::try_from(offset).ok().and_then(FixedOffset::east_opt).unwrap_or_else(|| Utc.fix());
    time.with_timezone(&offset).to_rfc3339()
}

fn with_offset(time: FeedTime) -> String {
    in_zone(time.instant(&ZONE))
}

fn periods(state: &State) -> Vec<Value> {
    let Some(today) = today(state) else { return Vec::new() };
    let period = |period: &crate::model::RegistrationPeriod| {
        let students = rows_of(&period.id, state).count();
        json!({
            "id": id(period.id.as_str()),
            "divisions": [{ "id": DIVISION, "code": "SEN", "name": "Senior School" }],
            "start": with_offset(period.at),
            "time": with_offset(period.at),
            "finish": in_zone(period.at.instant(&ZONE) + OPEN_FOR),
            "friendlyName": period.name.as_deref().unwrap_or("Registration"),
            "numberOfStudents": students,
            "registrationRuleId": 1,
            "registrationType": period.session.as_deref().map(str::to_uppercase),
        })
    };
    state.school.periods().iter().filter(|period| date_of(period.at) == today).map(period).collect()
}

fn rows_of<'a>(period: &PeriodId, state: &'a State) -> impl Iterator<Item = &'a Registration> + use<'a> {
    let period = period.clone();
    state.school.registrations().iter().filter(move |row| row.period.as_ref() == Some(&period))
}

/// The whole register; `None` if there is no such period today.
fn register(period: &str, state: &State) -> Option<Vec<Value>> {
    let (period, today) = (PeriodId::new(period), today(state)?);
    let known = state.school.periods().iter().find(|known| known.id == period)?;
    (date_of(known.at) == today).then(|| rows_of(&period, state).map(|row| record(row, state)).collect())
}

/// The row with iSAMS's own verdict: out of school where such a record covers the register and is no older than the row.
fn record(row: &Registration, state: &State) -> Value {
    let at = row.at.school_time(&ZONE);
    let stamp = |time: Option<FeedTime>| time.map(|time| time.instant(&ZONE));
    let is_taken = row.registered || row.code.is_some();
    let covers = |record: &&OutOfSchool| {
        let end = record.to.map_or(record.from, |to| to);
        let to = match end {
            FeedTime::Date(date) => date.succ_opt().unwrap_or(date).and_time(chrono::NaiveTime::MIN),
            end => end.school_time(&ZONE),
        };
        record.student == row.student && record.from.school_time(&ZONE) <= at && at < to
    };
    let newest = state.school.all_out_of_school().iter().filter(covers).max_by_key(|record| stamp(record.last_updated));
    let wins = |record: &&OutOfSchool| {
        let [own, other]: [Option<DateTime<Utc>>; 2] = [stamp(row.last_updated), stamp(record.last_updated)];
        !is_taken || other >= own
    };
    let out_of_school = newest.filter(wins);
    let code: Option<&RawCode> = match out_of_school {
        Some(record) => record.code.as_ref(),
        None => row.code.as_ref(),
    };
    let is_present = row.registered && out_of_school.is_none();
    json!({
        "schoolId": row.student,
        "registrationPeriodId": row.period.as_ref().map(|period| id(period.as_str())),
        "isRegistered": i32::from(is_taken),
        "isPresent": is_present,
        "isLate": is_present && row.late,
        "isOutOfSchool": out_of_school.is_some(),
        "isFutureAbsence": false,
        "alertSent": false,
        "parentNotificationSent": false,
        "numberOfMinutesLate": row.minutes_late.filter(|_| is_present),
        "presentCodeId": is_present.then_some(1),
        "absenceCodeId": code.filter(|_| !is_present).map(|code| id(code.as_str())),
        "registrationComment": row.comment,
        "leavingOrLeftDateTime": null,
    })
}
