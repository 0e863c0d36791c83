//! A worked case as it stands in a file.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{NaiveDate, NaiveTime};
use rollmark::model::{Code, OutOfSchool, PeriodId, RawCode, Record, RecordId, Registration, RegistrationPeriod};
use rollmark::rules::{PmRule, Rules, Scope, TieBreak, Window};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Case {
    settings: Settings,
    codes: Vec<Code>,
    registrations: Vec<RegistrationRow>,
    out_of_school: Vec<OutOfSchoolRow>,
    #[serde(default)]
    periods: Vec<PeriodRow>,
    pub issues: BTreeMap<String, u64>,
    pub marks: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Settings {
    timezone: rollmark::model::Zone,
    pm_rule: String,
    #[serde(default)]
    pm_start: Option<String>,
    tie: String,
    window: (NaiveDate, NaiveDate),
    today: NaiveDate,
    students: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RegistrationRow {
    id: Option<RecordId>,
    student: String,
    period: Option<PeriodId>,
    at: String,
    registered: bool,
    code: Option<RawCode>,
    late: Option<bool>,
    minutes_late: Option<i64>,
    last_updated: Option<String>,
}

#[derive(Deserialize)]
struct OutOfSchoolRow {
    id: Option<RecordId>,
    student: String,
    from: String,
    to: Option<String>,
    code: Option<RawCode>,
    last_updated: Option<String>,
}

#[derive(Deserialize)]
struct PeriodRow {
    id: PeriodId,
    at: String,
    session: Option<String>,
}

impl Case {
    pub fn read(path: &Path) -> Self {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    pub fn rules(&self) -> Rules {
        let pm_rule = match (self.settings.pm_rule.as_str(), &self.settings.pm_start) {
            ("time", Some(start)) => PmRule::FirstFrom(NaiveTime::parse_from_str(start, "%H:%M").unwrap()),
            ("time", None) => PmRule::default(),
            ("periods", _) => PmRule::RegistrationPeriods,
            (other, _) => panic!("unknown rule {other}"),
        };
        let tie_break = match self.settings.tie.as_str() {
            "out-of-school" | "out_of_school" => TieBreak::OutOfSchool,
            "registration" => TieBreak::Registration,
            other => panic!("unknown tie {other}"),
        };
        Rules::new(self.settings.timezone.clone()).with_pm(pm_rule).with_tie_break(tie_break)
    }

    pub fn scope(&self) -> Scope {
        let (from, to) = self.settings.window;
        let scope = Scope::all(Window::between(from, to).unwrap().with_today(self.settings.today));
        match &self.settings.students {
            Some(students) => scope.with_students(students),
            None => scope,
        }
    }

    pub fn has_codes(&self) -> bool {
        !self.codes.is_empty()
    }

    pub fn records(&self) -> Vec<Record> {
        let codes = self.codes.iter().cloned().map(Record::Code);
        let periods = self.periods.iter().map(|row| {
            Record::Period({
                let mut period = RegistrationPeriod::new(row.id.clone(), row.at.parse().unwrap());
                period.session = row.session.as_deref().map(Into::into);
                period
            })
        });
        let registrations = self.registrations.iter().map(|row| {
            Record::Registration({
                let mut record = Registration::new(row.student.as_str(), row.at.parse().unwrap());
                record.id = row.id.clone();
                record.period = row.period.clone();
                record.registered = row.registered;
                record.code = row.code.clone();
                record.late = row.late.unwrap_or_default();
                record.minutes_late = row.minutes_late.and_then(|minutes| minutes.try_into().ok());
                record.last_updated = row.last_updated.as_ref().map(|stamp| stamp.parse().unwrap());
                record
            })
        });
        let out_of_school = self.out_of_school.iter().map(|row| {
            Record::OutOfSchool({
                let mut record = OutOfSchool::new(
                    row.student.as_str(),
                    row.from.parse().unwrap(),
                    row.to.as_ref().map(|to| to.parse().unwrap()),
                );
                record.id = row.id.clone();
                record.code = row.code.clone();
                record.last_updated = row.last_updated.as_ref().map(|stamp| stamp.parse().unwrap());
                record
            })
        });
        codes.chain(periods).chain(registrations).chain(out_of_school).collect()
    }
}
