use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::{Class, CodeTable, CodedMark, MarkClass};
use crate::model::{Session, StudentId, stamp_text};
use crate::rules::Window;

/// A share in tenths of a percent, rounded half up. `Display` writes one decimal, such as `95.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percentage(u64);

impl Percentage {
    /// `part` as a share of `whole`; `None` if the whole is 0.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        let (part, whole) = (u128::from(part), u128::from(whole));
        let tenths = (2000 * part + whole).checked_div(2 * whole)?;
        u64::try_from(tenths).ok().map(Self)
    }

    /// Tenths of a percent: 952 for 95.2 %.
    pub fn tenths(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.0 / 10, self.0 % 10))
    }
}

/// Sessions, counted by what they count as. Each mark is in exactly one of the counts, except that late marks are also in a
/// count for late marks.
///
/// Serialises as one student of `rollmark summary --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sums {
    /// Present, including late before the register closed.
    pub present: u64,
    /// At an approved educational activity.
    pub approved_activity: u64,
    /// Authorised absences.
    pub authorised: u64,
    /// Unauthorised absences, including late after the register closed.
    pub unauthorised: u64,
    /// Left out: not a possible attendance.
    pub not_possible: u64,
    /// Left out: nothing is collected.
    pub not_collected: u64,
    /// Left out: the register was not taken.
    pub not_taken: u64,
    /// Left out: nothing says what they count as. By letter, or by raw code if the school's own table does not have the code;
    /// an absence without a letter is under the empty text.
    pub unclassified: BTreeMap<Box<str>, u64>,
    /// Late, and counted as attended.
    pub late_before: u64,
    /// Late, and counted as an absence.
    pub late_after: u64,
}

impl Sums {
    /// Present and approved activity.
    pub fn attended(&self) -> u64 {
        self.present + self.approved_activity
    }

    /// The sessions that could be attended: attended, authorised and unauthorised.
    pub fn possible(&self) -> u64 {
        self.attended() + self.authorised + self.unauthorised
    }

    /// Attended sessions as a share of possible ones; `None` if no session was possible.
    pub fn percentage(&self) -> Option<Percentage> {
        Percentage::of(self.attended(), self.possible())
    }

    /// All marks that were counted.
    pub fn marks(&self) -> u64 {
        let unclassified: u64 = self.unclassified.values().sum();
        self.possible() + self.not_possible + self.not_collected + self.not_taken + unclassified
    }

    fn count(&mut self, class: &MarkClass<'_>) {
        match class {
            MarkClass::NotTaken => self.not_taken += 1,
            MarkClass::Unclassified(letter) => add(&mut self.unclassified, letter, 1),
            MarkClass::Of { class, late, .. } => {
                *match class {
                    Class::Present => &mut self.present,
                    Class::ApprovedActivity => &mut self.approved_activity,
                    Class::Authorised => &mut self.authorised,
                    Class::Unauthorised => &mut self.unauthorised,
                    Class::NotPossible => &mut self.not_possible,
                    Class::NotCollected => &mut self.not_collected,
                } += 1;
                match class {
                    Class::Present | Class::ApprovedActivity if *late => self.late_before += 1,
                    Class::Authorised | Class::Unauthorised if *late => self.late_after += 1,
                    _ => {}
                }
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.present += other.present;
        self.approved_activity += other.approved_activity;
        self.authorised += other.authorised;
        self.unauthorised += other.unauthorised;
        self.not_possible += other.not_possible;
        self.not_collected += other.not_collected;
        self.not_taken += other.not_taken;
        self.late_before += other.late_before;
        self.late_after += other.late_after;
        other.unclassified.iter().for_each(|(letter, marks)| add(&mut self.unclassified, letter, *marks));
    }
}

fn add(counts: &mut BTreeMap<Box<str>, u64>, letter: &str, marks: u64) {
    match counts.get_mut(letter) {
        Some(count) => *count += marks,
        None => drop(counts.insert(letter.into(), marks)),
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct LeftOut<'a> {
            not_taken: u64,
            not_possible: u64,
            not_collected: u64,
            unclassified: &'a BTreeMap<Box<str>, u64>,
        }
        let mut fields = serializer.serialize_struct("Sums", 8)?;
        fields.serialize_field("possible", &self.possible())?;
        fields.serialize_field("attended", &self.attended())?;
        fields.serialize_field("authorised", &self.authorised)?;
        fields.serialize_field("unauthorised", &self.unauthorised)?;
        fields.serialize_field("late_before", &self.late_before)?;
        fields.serialize_field("late_after", &self.late_after)?;
        fields.serialize_field("percentage", &self.percentage().map(|percentage| percentage.to_string()))?;
        fields.serialize_field(
            "left_out",
            &LeftOut {
                not_taken: self.not_taken,
                not_possible: self.not_possible,
                not_collected: self.not_collected,
                unclassified: &self.unclassified,
            },
        )?;
        fields.end()
    }
}

/// The weeks or months that a range is divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// From Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
}

impl Part {
    /// The first date of the next part.
    fn after(self, date: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Week => date.checked_add_days(Days::new(7 - u64::from(date.weekday().num_days_from_monday()))),
            Self::Month if date.month() == 12 => NaiveDate::from_ymd_opt(date.year() + 1, 1, 1),
            Self::Month => NaiveDate::from_ymd_opt(date.year(), date.month() + 1, 1),
        }
    }

    /// The range in parts, in order; the first and the last can be shorter.
    fn of(self, window: Window) -> Vec<Window> {
        let mut parts = Vec::new();
        let mut from = Some(window.from());
        while let Some(first) = from.filter(|first| *first <= window.to()) {
            let next = self.after(first);
            let last = next.and_then(|next| next.pred_opt()).map_or(window.to(), |last| last.min(window.to()));
            parts.extend(Window::between(first, last));
            from = next;
        }
        parts
    }
}

/// What marks add up to in a range of dates, for each student and for all students.
///
/// Marks outside the range are not counted. The order of marks does not matter. There must be at most one mark for each
/// student, date and session, as a register and a store give them.
///
/// Serialises as the object of `rollmark summary --json`.
///
/// ```
/// use rollmark::codes::{CodeTable, Summary};
/// use rollmark::model::Record;
/// use rollmark::rules::{Resolver, Rules, Window};
///
/// # let mut row = rollmark::model::Registration::new("4733683260", "2026-11-20T08:40:00".parse()?);
/// # row.registered = true;
/// # let records = [Record::Registration(row)];
/// let window = Window::between("2026-11-16".parse()?, "2026-11-20".parse()?)?;
/// let mut resolver = Resolver::new(Rules::new("Europe/London".parse()?), window);
/// resolver.extend(records);
/// let register = resolver.finish()?;
/// let marks: Vec<_> = register.marks().collect();
/// let summary = Summary::of(&CodeTable::england(), window, &marks);
/// assert_eq!(summary.total().percentage().unwrap().to_string(), "100.0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    window: Window,
    edition: Box<str>,
    as_of: Option<DateTime<Utc>>,
    is_as_of_known: bool,
    students: BTreeMap<StudentId, Sums>,
    contradicting: BTreeMap<Box<str>, u64>,
    held: BTreeSet<(NaiveDate, Session)>,
}

impl Summary {
    /// Adds up marks. Cost: one pass; memory grows with students, not with marks.
    pub fn of<'a>(
        table: &CodeTable,
        window: Window,
        marks: impl IntoIterator<Item = impl Into<CodedMark<'a>>>,
    ) -> Self {
        let mut summary = Self::empty(table, window);
        for mark in marks {
            summary.count(table, mark.into());
        }
        summary
    }

    /// Adds up marks for each week or month of the range, in order and in one pass. Parts without a mark are included.
    pub fn by_part<'a>(
        table: &CodeTable,
        window: Window,
        part: Part,
        marks: impl IntoIterator<Item = impl Into<CodedMark<'a>>>,
    ) -> Vec<Self> {
        let mut parts: Vec<Self> = part.of(window).into_iter().map(|part| Self::empty(table, part)).collect();
        for mark in marks {
            let mark = mark.into();
            let after = parts.partition_point(|part| part.window.from() <= mark.date);
            if let Some(part) = after.checked_sub(1).and_then(|at| parts.get_mut(at)) {
                part.count(table, mark);
            }
        }
        parts
    }

    fn empty(table: &CodeTable, window: Window) -> Self {
        Self {
            window,
            edition: table.edition().into(),
            as_of: None,
            is_as_of_known: true,
            students: BTreeMap::new(),
            contradicting: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    fn count(&mut self, table: &CodeTable, mark: CodedMark<'_>) {
        if !self.window.contains(mark.date) {
            return;
        }
        let class = table.class_of(mark);
        match self.students.get_mut(mark.student) {
            Some(sums) => sums.count(&class),
            None => self.students.entry(mark.student.clone()).or_default().count(&class),
        }
        if let (MarkClass::Of { contradicts_school: true, .. }, Some(letter)) = (&class, mark.code) {
            add(&mut self.contradicting, letter, 1);
        }
        self.held.insert((mark.date, mark.session));
        self.is_as_of_known &= mark.as_of_earliest.is_some();
        self.as_of = [self.as_of, mark.as_of_earliest].into_iter().flatten().min();
    }

    /// Says which sessions the school held ([R7](crate::guide::rules#r7)), if the marks are not those of all students.
    /// Without this, a session counts as held if it has any of the marks.
    #[must_use]
    pub fn with_sessions_held(mut self, sessions: impl IntoIterator<Item = (NaiveDate, Session)>) -> Self {
        self.held.extend(sessions.into_iter().filter(|(date, _)| self.window.contains(*date)));
        self
    }

    /// Adds students who may have no mark.
    #[must_use]
    pub fn with_students(mut self, students: impl IntoIterator<Item = impl Into<StudentId>>) -> Self {
        for student in students {
            self.students.entry(student.into()).or_default();
        }
        self
    }

    /// The range.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The edition of the code table.
    pub fn edition(&self) -> &str {
        &self.edition
    }

    /// The earliest moment that any of the marks can show, by the runs that last wrote them. `None` unless this is known for
    /// every mark.
    pub fn as_of(&self) -> Option<DateTime<Utc>> {
        self.as_of.filter(|_| self.is_as_of_known)
    }

    /// Each student's sums, sorted by student (code points).
    pub fn students(&self) -> &BTreeMap<StudentId, Sums> {
        &self.students
    }

    /// The sums of all students.
    pub fn total(&self) -> Sums {
        let mut total = Sums::default();
        self.students.values().for_each(|sums| total.add(sums));
        total
    }

    /// For each student with missing marks, the number of held sessions without a mark. It includes the sessions before the
    /// student came and after the student left.
    pub fn no_mark(&self) -> BTreeMap<&StudentId, u64> {
        let held = self.held.len() as u64;
        let missing = |sums: &Sums| held.saturating_sub(sums.marks());
        self.students
            .iter()
            .map(|(student, sums)| (student, missing(sums)))
            .filter(|(_, missing)| *missing > 0)
            .collect()
    }

    /// The number of marks with a letter that the school's own code table counts the opposite way, by letter
    /// ([`MarkClass::Of`]). The table of this summary decides.
    pub fn contradicting(&self) -> &BTreeMap<Box<str>, u64> {
        &self.contradicting
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct OfStudent<'a> {
            student: &'a StudentId,
            #[serde(flatten)]
            sums: &'a Sums,
        }
        let students: Vec<OfStudent<'_>> =
            self.students.iter().map(|(student, sums)| OfStudent { student, sums }).collect();
        let mut fields = serializer.serialize_struct("Summary", 8)?;
        fields.serialize_field("from", &self.window.from())?;
        fields.serialize_field("to", &self.window.to())?;
        fields.serialize_field("as_of", &self.as_of().map(stamp_text))?;
        fields.serialize_field("edition", &self.edition)?;
        fields.serialize_field("students", &students)?;
        fields.serialize_field("total", &self.total())?;
        fields.serialize_field("no_mark", &self.no_mark())?;
        fields.serialize_field("contradicting", &self.contradicting)?;
        fields.end()
    }
}
