use std::ops::{Deref, DerefMut};

use chrono::{Datelike, Days, NaiveDate, NaiveTime, Weekday};

use crate::model::{
    Code, FeedTime, OutOfSchool, PeriodId, RawCode, Record, RecordId, Registration, RegistrationPeriod, SessionMark,
    StudentId,
};

/// A made-up school for tests, with methods that make a test's setup easy to read.
///
/// Times are texts as feeds write them. A text that can't be read as a time panics: it is a mistake in the test.
///
/// ```
/// use rollmark::testing::FakeSchool;
///
/// let amelia = "4733683260";
/// let mut school = FakeSchool::new();
/// school.code("17", "M", "Medical", true);
/// school.registration("100", amelia, "2026-11-20T08:40:00").present().updated("2026-11-20T08:52:00");
/// school.out_of_school("901", amelia, "2026-11-20T10:00:00", "2026-11-20T15:30:00").coded("17");
/// school.out_of_school_mut("901").unwrap().updated("2026-11-20T14:05:00");
/// assert_eq!(school.records().count(), 3);
/// ```
#[derive(Clone, Debug, Default)]
pub struct FakeSchool {
    codes: Vec<Code>,
    periods: Vec<RegistrationPeriod>,
    registrations: Vec<Registration>,
    out_of_school: Vec<OutOfSchool>,
    session_marks: Vec<SessionMark>,
}

fn time(text: &str) -> FeedTime {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl FakeSchool {
    /// A school without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a code: its id, letter and name, and whether it counts as an absence.
    pub fn code(&mut self, id: &str, letter: &str, name: &str, absence: bool) {
        self.codes.push(Code {
            id: id.into(),
            letter: Some(letter.into()),
            name: Some(name.into()),
            absence,
            active: true,
            unreadable: Vec::new(),
        });
    }

    /// Adds a registration period; the flag is `am`, `pm` or none (a lesson).
    pub fn period(&mut self, id: &str, at: &str, flag: Option<&str>) {
        self.periods.push(RegistrationPeriod {
            id: id.into(),
            at: time(at),
            session: flag.map(Into::into),
            name: None,
            unreadable: Vec::new(),
        });
    }

    /// Adds a row of a register that nobody has taken yet; the returned row can be edited further.
    #[expect(clippy::indexing_slicing, reason = "it was pushed just now")]
    pub fn registration(&mut self, id: &str, student: &str, at: &str) -> RegistrationBuilder<'_> {
        let mut row = Registration::new(student, time(at));
        row.id = Some(id.into());
        row.registered = false;
        self.registrations.push(row);
        let last = self.registrations.len() - 1;
        RegistrationBuilder(&mut self.registrations[last])
    }

    /// Adds an out-of-school record; the returned record can be edited further. The end is not included, unless it is a
    /// date without a time ([R5](crate::guide::rules#r5)).
    #[expect(clippy::indexing_slicing, reason = "it was pushed just now")]
    pub fn out_of_school(&mut self, id: &str, student: &str, from: &str, to: &str) -> OutOfSchoolBuilder<'_> {
        let mut record = OutOfSchool::new(student, time(from), Some(time(to)));
        record.id = Some(id.into());
        self.out_of_school.push(record);
        let last = self.out_of_school.len() - 1;
        OutOfSchoolBuilder(&mut self.out_of_school[last])
    }

    /// Adds any record. A school has registrations or session marks, never both.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Code(code) => self.codes.push(code),
            Record::Period(period) => self.periods.push(period),
            Record::Registration(row) => self.registrations.push(row),
            Record::OutOfSchool(record) => self.out_of_school.push(record),
            Record::SessionMark(mark) => self.session_marks.push(mark),
        }
    }

    /// The first row with this id.
    pub fn registration_mut(&mut self, id: &str) -> Option<RegistrationBuilder<'_>> {
        let id = RecordId::new(id);
        self.registrations.iter_mut().find(|row| row.id.as_ref() == Some(&id)).map(RegistrationBuilder)
    }

    /// The first out-of-school record with this id.
    pub fn out_of_school_mut(&mut self, id: &str) -> Option<OutOfSchoolBuilder<'_>> {
        let id = RecordId::new(id);
        self.out_of_school.iter_mut().find(|record| record.id.as_ref() == Some(&id)).map(OutOfSchoolBuilder)
    }

    /// Removes every registration for which the function returns `true`.
    pub fn remove_registrations(&mut self, mut which: impl FnMut(&Registration) -> bool) {
        self.registrations.retain(|row| !which(row));
    }

    /// Removes every out-of-school record for which the function returns `true`.
    pub fn remove_out_of_school(&mut self, mut which: impl FnMut(&OutOfSchool) -> bool) {
        self.out_of_school.retain(|record| !which(record));
    }

    /// The codes, in the order in which they were added.
    pub fn codes(&self) -> &[Code] {
        &self.codes
    }

    /// The registration periods, in the order in which they were added.
    pub fn periods(&self) -> &[RegistrationPeriod] {
        &self.periods
    }

    /// The registrations, in the order in which they were added.
    pub fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// The out-of-school records, in the order in which they were added.
    pub fn all_out_of_school(&self) -> &[OutOfSchool] {
        &self.out_of_school
    }

    /// The session marks, in the order in which they were added.
    pub fn session_marks(&self) -> &[SessionMark] {
        &self.session_marks
    }

    /// Every record: codes, periods, registrations, out-of-school records, session marks.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let codes = self.codes.iter().cloned().map(Record::Code);
        let periods = self.periods.iter().cloned().map(Record::Period);
        let registrations = self.registrations.iter().cloned().map(Record::Registration);
        let out_of_school = self.out_of_school.iter().cloned().map(Record::OutOfSchool);
        let session_marks = self.session_marks.iter().cloned().map(Record::SessionMark);
        codes.chain(periods).chain(registrations).chain(out_of_school).chain(session_marks)
    }
}

/// A row of a register in a [`FakeSchool`], to be filled in.
///
/// It dereferences to the record, whose fields can be read and set through it.
#[derive(Debug)]
pub struct RegistrationBuilder<'a>(&'a mut Registration);

impl Deref for RegistrationBuilder<'_> {
    type Target = Registration;

    fn deref(&self) -> &Registration {
        self.0
    }
}

impl DerefMut for RegistrationBuilder<'_> {
    fn deref_mut(&mut self) -> &mut Registration {
        self.0
    }
}

impl RegistrationBuilder<'_> {
    /// Sets the row's registration period.
    pub fn in_period(&mut self, id: impl Into<PeriodId>) -> &mut Self {
        self.period = Some(id.into());
        self
    }

    /// Marks the student as present.
    pub fn present(&mut self) -> &mut Self {
        (self.registered, self.code, self.late) = (true, None, false);
        self
    }

    /// Marks the student as late, by `minutes` if they are known.
    pub fn late(&mut self, minutes: Option<u32>) -> &mut Self {
        (self.registered, self.code, self.late, self.minutes_late) = (true, None, true, minutes);
        self
    }

    /// Marks the student as not present, with a code's id or letter.
    pub fn absent(&mut self, code: impl Into<RawCode>) -> &mut Self {
        (self.registered, self.code, self.late) = (false, Some(code.into()), false);
        self
    }

    /// Sets when the row was last updated. Panics if the text is not a time.
    pub fn updated(&mut self, at: &str) -> &mut Self {
        self.last_updated = Some(time(at));
        self
    }
}

/// An out-of-school record in a [`FakeSchool`], to be filled in.
///
/// It dereferences to the record, whose fields can be read and set through it.
#[derive(Debug)]
pub struct OutOfSchoolBuilder<'a>(&'a mut OutOfSchool);

impl Deref for OutOfSchoolBuilder<'_> {
    type Target = OutOfSchool;

    fn deref(&self) -> &OutOfSchool {
        self.0
    }
}

impl DerefMut for OutOfSchoolBuilder<'_> {
    fn deref_mut(&mut self) -> &mut OutOfSchool {
        self.0
    }
}

impl OutOfSchoolBuilder<'_> {
    /// Sets the code, by a code's id or letter.
    pub fn coded(&mut self, code: impl Into<RawCode>) -> &mut Self {
        self.code = Some(code.into());
        self
    }

    /// Sets when the record was last updated. Panics if the text is not a time.
    pub fn updated(&mut self, at: &str) -> &mut Self {
        self.last_updated = Some(time(at));
        self
    }
}

const DEMO_STUDENTS: u64 = 40;
/// The number of students whose PM register of today is taken only in the second act.
const DEMO_NOT_TAKEN: u64 = 6;
/// The registers of a day: start, minutes until the register is taken, session flag.
const DEMO_REGISTERS: [(&str, &str, Option<&str>); 4] = [
    ("08:40:00", "08:52:00", Some("am")),
    ("10:05:00", "10:11:00", None),
    ("11:15:00", "11:21:00", None),
    ("13:30:00", "13:41:00", Some("pm")),
];

/// The date `days` days earlier, but no earlier than the first date that a feed can hold.
fn days_before(date: NaiveDate, days: u64) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default();
    date.checked_sub_days(Days::new(days)).unwrap_or(first).max(first)
}

/// The school days up to today, at most 31 dates back; today counts as one on any weekday, so that the demonstration
/// always has a day to show.
fn demo_days(today: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    let first = days_before(today, 30);
    first
        .iter_days()
        .take_while(move |date| *date <= today)
        .filter(move |date| *date == today || !matches!(date.weekday(), Weekday::Sat | Weekday::Sun))
}

fn demo_student(number: u64) -> StudentId {
    StudentId::new((4_733_683_200 + 7 * number).to_string())
}

impl FakeSchool {
    /// A school for demonstrations, which depends only on today: forty students, four registers a day, AM at 08:40
    /// and PM at 13:30, some absences and out-of-school records. Today's PM register is not taken yet for some.
    pub fn demo(today: NaiveDate) -> Self {
        let mut school = Self::new();
        let codes = [
            ("5", "C", "Authorised absence", true),
            ("9", "I", "Illness", true),
            ("17", "M", "Medical", true),
            ("21", "V", "Educational visit", false),
        ];
        codes.iter().for_each(|(id, letter, name, absence)| school.code(id, letter, name, *absence));
        let mut row_number = 100_000;
        for (day, date) in (0_u64..).zip(demo_days(today)) {
            for (slot, (at, taken, flag)) in (0_u64..).zip(DEMO_REGISTERS) {
                let period = (50_000 + 10 * day + slot).to_string();
                let at = format!("{date}T{at}");
                school.period(&period, &at, flag);
                for number in 0..DEMO_STUDENTS {
                    row_number += 1;
                    let mut row = school.registration(&row_number.to_string(), demo_student(number).as_str(), &at);
                    row.in_period(period.as_str());
                    if date == today && flag == Some("pm") && number < DEMO_NOT_TAKEN {
                        continue;
                    }
                    row.updated(&format!("{date}T{taken}"));
                    match (number * 31 + day * 17 + slot * 5) % 67 {
                        0 => row.absent("9"),
                        1 => row.absent("5"),
                        2 => row.late(Some(7)),
                        3 => row.late(None),
                        _ => row.present(),
                    };
                }
            }
            if day % 3 == 0 {
                let student = demo_student(day % DEMO_STUDENTS);
                let (from, to) = (format!("{date}T08:00:00"), format!("{date}T12:30:00"));
                let mut record = school.out_of_school(&(900 + day).to_string(), student.as_str(), &from, &to);
                record.coded("17").updated(&format!("{date}T09:14:03"));
            }
        }
        // Entered the evening before, so the register of today is newer; the second act resaves it.
        let eve = days_before(today, 1);
        let (from, to) = (format!("{today}T08:00:00"), format!("{today}T15:30:00"));
        school
            .out_of_school("990", demo_student(3).as_str(), &from, &to)
            .coded("21")
            .updated(&format!("{eve}T18:20:00"));
        school
    }

    /// Performs the demonstration's second act: a late correction of a morning, an out-of-school record of today that is
    /// saved again, and today's PM register, which is now taken.
    pub fn demo_changes(&mut self, today: NaiveDate) {
        let morning = NaiveTime::from_hms_opt(9, 0, 0).unwrap_or_default();
        let is_am = |row: &Registration| matches!(row.at, FeedTime::School(at) if at.time() < morning);
        let corrected = demo_student(5);
        let first_day = self.registrations.iter_mut().find(|row| row.student == corrected && is_am(row));
        if let Some(row) = first_day {
            RegistrationBuilder(row).absent("5").updated(&format!("{today}T09:30:00"));
        }
        if let Some(mut record) = self.out_of_school_mut("990") {
            record.updated(&format!("{today}T14:05:00"));
        }
        let pm = time(&format!("{today}T13:30:00"));
        for row in self.registrations.iter_mut().filter(|row| row.at == pm && row.last_updated.is_none()) {
            RegistrationBuilder(row).present().updated(&format!("{today}T13:41:00"));
        }
    }
}
