use chrono::Datelike;

use super::escapes::NO_CHARACTER;
use super::failure::bad_record;
use super::text::{
    LONGEST_LETTER, LONGEST_NAME, LONGEST_TEXT, clipped, is_at_most, is_id, listed, printable, unknown_name,
};
use super::vocabulary::container_name;
use crate::model::{
    Code, FIRST_REAL_YEAR, FeedTime, OutOfSchool, RawCode, Record, Registration, RegistrationPeriod, Session,
    UnreadableField,
};
use crate::source::{FetchedKind, SourceError, SourceErrorKind};

macro_rules! field_names {
    ($($(#[$doc:meta])* $name:ident: [$($default:literal),*],)*) => {
        /// The node names under which each field is looked for, in order of preference and without regard to case.
        ///
        /// The first listed name that is present with a value wins; attributes and child elements count alike. The names
        /// of registration statuses and codes are verified, those of out-of-school records and registration periods
        /// assumed. Replace a list where a tenant uses other names:
        ///
        /// ```
        /// use rollmark::isams::FieldNames;
        ///
        /// let mut names = FieldNames::default();
        /// names.out_of_school_from = vec!["AwayFrom".to_owned()];
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct FieldNames {
            $($(#[$doc])* pub $name: Vec<String>,)*
        }

        impl FieldNames {
            /// Every list with the name of its option.
            pub(super) fn lists(&self) -> Vec<(&'static str, &[String])> {
                vec![$((stringify!($name), self.$name.as_slice())),*]
            }

            /// Replaces a list, by its name here (`out_of_school_from`).
            ///
            /// # Errors
            /// There is no such list, a name is empty, or no name is given.
            pub fn with_names(mut self, list: &str, names: Vec<String>) -> Result<Self, SourceError> {
                let refused = |message| Err(SourceError::new(SourceErrorKind::Configuration, message));
                if names.is_empty() || names.iter().any(|name| name.trim().is_empty()) {
                    return refused(format!("the list {} needs at least one name, and no empty one", printable(list)));
                }
                let list = match list {
                    $(stringify!($name) => &mut self.$name,)*
                    _ => {
                        let known = [$(stringify!($name)),*].join(", ");
                        return refused(format!("unknown list of field names {}; the lists are {known}", printable(list)));
                    }
                };
                *list = names.into_iter().map(|name| name.trim().to_owned()).collect();
                Ok(self)
            }
        }

        impl Default for FieldNames {
            fn default() -> Self {
                Self { $($name: vec![$($default.to_owned()),*],)* }
            }
        }
    };
}

field_names! {
        /// A registration's row id.
        registration_id: ["Id"],
        /// A registration's student; required.
        registration_student: ["PupilId", "SchoolId", "StudentId"],
        /// A registration's period.
        registration_period: ["PeriodId", "RegistrationPeriodId"],
        /// When the register is; required.
        registration_time: ["RegistrationDateTime", "DateTime"],
        /// Whether the student was registered; required.
        registration_registered: ["Registered"],
        /// A registration's code.
        registration_code: ["Code", "CodeId"],
        /// Whether the student was late.
        registration_late: ["Late"],
        /// How many minutes late the student was.
        registration_minutes_late: ["MinutesLate"],
        /// A registration's free text.
        registration_comment: ["Reason"],
        /// When a registration was last updated.
        registration_updated: ["LastUpdated", "LastUpdatedDate", "UpdatedDate", "ModifiedDate"],
        /// An out-of-school record's id.
        out_of_school_id: ["Id", "OutOfSchoolId"],
        /// An out-of-school record's student; required.
        out_of_school_student: ["PupilId", "SchoolId", "StudentId"],
        /// When an out-of-school record begins; required.
        out_of_school_from: ["StartDateTime", "StartDate", "DateFrom", "From", "Start"],
        /// When an out-of-school record ends.
        out_of_school_to: ["EndDateTime", "EndDate", "FinishDate", "DateTo", "To", "End"],
        /// An out-of-school record's code.
        out_of_school_code: [
            "Code", "CodeId", "AbsenceCode", "AbsenceCodeId", "RegistrationCode", "RegistrationCodeId", "OutOfSchoolCode",
            "OutOfSchoolCodeId", "AbsenceReasonId"
        ],
        /// An out-of-school record's free text.
        out_of_school_reason: ["Reason", "Note", "Notes", "AbsentNote", "Comment"],
        /// When an out-of-school record was last updated.
        out_of_school_updated: [
            "LastUpdated", "LastUpdatedDate", "UpdatedDate", "SubmitDateTime", "ModifiedDate", "LastModified",
            "LastModifiedDate", "DateModified", "LastUpdatedDateTime", "LastUpdatedOn", "UpdatedAt", "Modified"
        ],
        /// A registration period's id; required.
        period_id: ["Id", "PeriodId", "RegistrationPeriodId"],
        /// When a registration period's register is; required.
        period_time: ["RegistrationDateTime", "DateTime", "Time", "Start"],
        /// A registration period's session flag. A period without one is flagged by its name if that is `AM` or `PM`.
        period_session: ["AmPm", "Session", "RegistrationType", "Type"],
        /// A registration period's name.
        period_name: ["Name", "FriendlyName", "Description"],
        /// A code's id; required.
        code_id: ["Id"],
        /// A code's letter.
        code_letter: ["Code"],
        /// A code's name.
        code_name: ["Name"],
        /// Whether a code counts as an absence; required.
        code_absence: ["Absence"],
        /// Whether a code is in use.
        code_active: ["Active"],
}

/// The options for the fields that a record must have.
pub(super) const REQUIRED: [&str; 9] = [
    "registration_student",
    "registration_time",
    "registration_registered",
    "out_of_school_student",
    "out_of_school_from",
    "period_id",
    "period_time",
    "code_id",
    "code_absence",
];

/// One item of a reply: its fields by name, without empty ones.
pub(super) struct Item<'a> {
    pub(super) kind: FetchedKind,
    /// Its place among those of its kind in the reply, from 1.
    pub(super) number: u64,
    pub(super) fields: &'a [(String, String)],
    /// Fields that decide nothing, as the caller says.
    pub(super) ignored: &'a [String],
}

impl<'a> Item<'a> {
    /// "row 812 (id 4711) of the registrations in RegistrationStatuses"; an id with spaces or other characters is not shown.
    fn place(&self, names: &FieldNames) -> String {
        let ids = match self.kind {
            FetchedKind::OutOfSchool => &names.out_of_school_id,
            FetchedKind::Periods => &names.period_id,
            FetchedKind::Codes => &names.code_id,
            FetchedKind::Registrations | FetchedKind::SessionMarks => &names.registration_id,
        };
        let id = self.get(ids).filter(|(_, id)| is_id(id) && id.bytes().all(|byte| byte.is_ascii_graphic()));
        let id = id.map(|(_, id)| format!(" (id {id})")).unwrap_or_default();
        format!("row {}{id} of the {} in {}", self.number, self.kind, container_name(self.kind))
    }

    fn get(&self, names: &[String]) -> Option<(&'a str, &'a str)> {
        let find = |name: &String| self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        names.iter().find_map(find).map(|(field, value)| (field.as_str(), value.as_str()))
    }

    /// The fields that none of these lists names and that are not ignored.
    pub(super) fn unlisted(&self, lists: &[&[String]]) -> Vec<(&'a str, &'a str)> {
        let is_listed = |field: &str| {
            let mut names = lists.iter().copied().chain([self.ignored]).flatten();
            names.any(|name| name.eq_ignore_ascii_case(field))
        };
        let fields = self.fields.iter().map(|(field, value)| (field.as_str(), value.as_str()));
        fields.filter(|(field, _)| !is_listed(field)).collect()
    }

    fn required(&self, names: &[String], what: &str, option: &str) -> Result<(&'a str, &'a str), SourceError> {
        let (field, value) = self.get(names).ok_or_else(|| {
            let present = listed(self.fields.iter().map(|(name, _)| name.as_str()));
            bad_record(format!(
                "has no field for its {what}; its fields are: {present}; say which one it is (--field {option}=NAME)"
            ))
        })?;
        if !is_id(value) {
            return Err(self.unreadable(field, what, option));
        }
        Ok((field, value))
    }

    fn unreadable(&self, field: &str, what: &str, option: &str) -> SourceError {
        bad_record(format!(
            "has an unreadable {what} in its field {}; correct it in the management system, or say in which field it is \
             (--field {option}=NAME)",
            printable(field)
        ))
    }

    fn required_flag(&self, names: &[String], what: &str, option: &str) -> Result<bool, SourceError> {
        let (field, value) = self.required(names, what, option)?;
        flag(value).ok_or_else(|| self.unreadable(field, what, option))
    }

    /// A required time; a bare date is refused unless it may be one.
    fn required_time(
        &self,
        names: &[String],
        what: &str,
        option: &str,
        may_be_date: bool,
    ) -> Result<FeedTime, SourceError> {
        let (field, value) = self.required(names, what, option)?;
        match value.parse::<FeedTime>() {
            Ok(time) if may_be_date || !time.is_date() => Ok(time),
            _ => Err(self.unreadable(field, what, option)),
        }
    }

    /// An optional id or code. One that can't be read is an error all the same: without it the record would be another.
    fn id(&self, names: &[String], what: &str, option: &str) -> Result<Option<&'a str>, SourceError> {
        match self.get(names) {
            Some((field, value)) if !is_id(value) => Err(self.unreadable(field, what, option)),
            found => Ok(found.map(|(_, value)| value)),
        }
    }

    /// An optional field, read; what can't be read is missing and noted.
    fn optional<T>(
        &self,
        names: &[String],
        unreadable: &mut Vec<UnreadableField>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (field, value) = self.get(names)?;
        let read = read(value);
        if read.is_none() {
            unreadable.push(UnreadableField::new(field.to_owned()));
        }
        read
    }

    /// An optional name or free text. One that is too long is cut and noted.
    fn text(&self, names: &[String], unreadable: &mut Vec<UnreadableField>, longest: usize) -> Option<Box<str>> {
        let (field, value) = self.get(names)?;
        let text = clipped(value, longest);
        let is_broken = value.contains(NO_CHARACTER);
        if is_broken || text.len() < value.len() {
            unreadable.push(UnreadableField::new(field.to_owned()));
        }
        (!is_broken).then(|| text.trim_end().into())
    }

    /// `AM` or `PM` where one of these fields is exactly that.
    fn session_by_name(&self, names: &[String]) -> Option<&'static str> {
        let values = names.iter().filter_map(|name| self.get(std::slice::from_ref(name)));
        values.filter_map(|(_, value)| session_named(value)).next()
    }

    /// A date without a time of day beside a field that holds one and that no list names: reading on would be a guess.
    fn refuse_split_time(&self, times: &[(Option<FeedTime>, &str)], known: &[&[String]]) -> Result<(), SourceError> {
        let Some((_, option)) = times.iter().find(|(time, _)| time.is_some_and(FeedTime::is_date)) else {
            return Ok(());
        };
        match self.unlisted(known).into_iter().find(|(_, value)| is_time_of_day(value)) {
            None => Ok(()),
            Some((field, _)) => Err(bad_record(format!(
                "has a date without a time, and a time of day in its field {}; say which field holds both \
                 (--field {option}=NAME)",
                unknown_name(field)
            ))),
        }
    }
}

/// Reads an item as a record (R1.6).
pub(super) fn record(item: &Item<'_>, names: &FieldNames) -> Result<Record, SourceError> {
    let read = match item.kind {
        FetchedKind::Registrations => registration(item, names).map(Record::Registration),
        FetchedKind::OutOfSchool => out_of_school(item, names).map(Record::OutOfSchool),
        FetchedKind::Periods => period(item, names).map(Record::Period),
        FetchedKind::Codes => code(item, names).map(Record::Code),
        FetchedKind::SessionMarks => Err(bad_record("can't be read, since iSAMS has no session marks".to_owned())),
    };
    // What reads the fields says only what is wrong.
    read.map_err(|error| error.reworded(|wrong| format!("{} {wrong}", item.place(names))))
}

fn registration(item: &Item<'_>, names: &FieldNames) -> Result<Registration, SourceError> {
    let (_, student) = item.required(&names.registration_student, "student", "registration_student")?;
    let at = item.required_time(&names.registration_time, "time", "registration_time", false)?;
    let mut row = Registration::new(student, at);
    row.registered =
        item.required_flag(&names.registration_registered, "registered flag", "registration_registered")?;
    row.id = item.id(&names.registration_id, "id", "registration_id")?.map(Into::into);
    row.period = item.id(&names.registration_period, "period", "registration_period")?.map(Into::into);
    row.code = item.id(&names.registration_code, "code", "registration_code")?.map(RawCode::from);
    let unreadable = &mut row.unreadable;
    row.comment = item.text(&names.registration_comment, unreadable, LONGEST_TEXT);
    row.late = item.optional(&names.registration_late, unreadable, flag).unwrap_or(false);
    row.minutes_late = item.optional(&names.registration_minutes_late, unreadable, minutes).flatten();
    row.last_updated = item.optional(&names.registration_updated, unreadable, |text| text.parse().ok());
    Ok(row)
}

/// Negative minutes are missing (R1.6), which is not the same as unreadable.
pub(super) fn minutes(text: &str) -> Option<Option<u32>> {
    match text.parse::<i64>() {
        Ok(..0) => Some(None),
        Ok(minutes) => minutes.try_into().ok().map(Some),
        Err(_) => None,
    }
}

/// `AM` or `PM` where a period's name is exactly that.
pub(super) fn session_named(name: &str) -> Option<&'static str> {
    Session::BOTH.map(Session::name).into_iter().find(|flag| *flag == name)
}

/// Every list of names of an out-of-school record's fields.
pub(super) fn out_of_school_lists(names: &FieldNames) -> [&[String]; 7] {
    [
        &names.out_of_school_id,
        &names.out_of_school_student,
        &names.out_of_school_from,
        &names.out_of_school_to,
        &names.out_of_school_code,
        &names.out_of_school_reason,
        &names.out_of_school_updated,
    ]
}

fn out_of_school(item: &Item<'_>, names: &FieldNames) -> Result<OutOfSchool, SourceError> {
    let (_, student) = item.required(&names.out_of_school_student, "student", "out_of_school_student")?;
    let from = item.required_time(&names.out_of_school_from, "beginning", "out_of_school_from", true)?;
    let mut unreadable = Vec::new();
    let to = item.optional(&names.out_of_school_to, &mut unreadable, |text| text.parse().ok());
    let times = [(Some(from), "out_of_school_from"), (to, "out_of_school_to")];
    item.refuse_split_time(&times, &out_of_school_lists(names))?;
    let mut record = OutOfSchool::new(student, from, to);
    record.id = item.id(&names.out_of_school_id, "id", "out_of_school_id")?.map(Into::into);
    record.code = item.id(&names.out_of_school_code, "code", "out_of_school_code")?.map(RawCode::from);
    record.reason = item.text(&names.out_of_school_reason, &mut unreadable, LONGEST_TEXT);
    record.last_updated = item.optional(&names.out_of_school_updated, &mut unreadable, |text| text.parse().ok());
    record.unreadable = unreadable;
    Ok(record)
}

fn period(item: &Item<'_>, names: &FieldNames) -> Result<RegistrationPeriod, SourceError> {
    let (_, id) = item.required(&names.period_id, "id", "period_id")?;
    let (field, value) = item.required(&names.period_time, "time", "period_time")?;
    let at: FeedTime = value.parse().map_err(|_| item.unreadable(field, "time", "period_time"))?;
    let known: [&[String]; 4] = [&names.period_id, &names.period_time, &names.period_session, &names.period_name];
    item.refuse_split_time(&[(Some(at), "period_time")], &known)?;
    if at.is_date() {
        return Err(item.unreadable(field, "time", "period_time"));
    }
    let mut unreadable = Vec::new();
    let session = match item.get(&names.period_session) {
        Some(_) => item.text(&names.period_session, &mut unreadable, LONGEST_NAME),
        None => item.session_by_name(&names.period_name).map(Into::into),
    };
    let name = item.text(&names.period_name, &mut unreadable, LONGEST_NAME);
    Ok(RegistrationPeriod { id: id.into(), at, session, name, unreadable })
}

fn code(item: &Item<'_>, names: &FieldNames) -> Result<Code, SourceError> {
    let (_, id) = item.required(&names.code_id, "id", "code_id")?;
    let mut unreadable = Vec::new();
    Ok(Code {
        id: id.into(),
        letter: item.optional(&names.code_letter, &mut unreadable, letter),
        name: item.text(&names.code_name, &mut unreadable, LONGEST_NAME),
        absence: item.required_flag(&names.code_absence, "absence flag", "code_absence")?,
        active: item.optional(&names.code_active, &mut unreadable, flag).unwrap_or(false),
        unreadable,
    })
}

/// A code's letter.
pub(super) fn letter(text: &str) -> Option<Box<str>> {
    (is_id(text) && is_at_most(text, LONGEST_LETTER)).then(|| text.into())
}

pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A time of day as databases and people write it: `10:00`, `10:00 AM`, `PT10H`, `1900-01-01T10:00:00`.
fn is_time_of_day(text: &str) -> bool {
    const FORMS: [&str; 4] = ["%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p"];
    let placeholder = |time: FeedTime| !time.is_date() && time.as_written().year() < FIRST_REAL_YEAR;
    FORMS.iter().any(|form| chrono::NaiveTime::parse_from_str(text, form).is_ok())
        || text.strip_prefix("PT").is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
        || text.parse().is_ok_and(placeholder)
}
