use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;
use serde::Serialize;

use super::england;
use crate::model::{names, setters};

/// Says whose codes a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Jurisdiction {
    /// England's statutory codes.
    England,
    /// The school's own codes, where no statutory table is in use.
    SchoolsOwn,
}

names!(Jurisdiction, "a set of codes", {
    England => "england",
    SchoolsOwn => "school",
});

/// What a session counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// At school. A possible attendance, attended.
    Present,
    /// Educated elsewhere with the school's approval. A possible attendance, attended.
    ApprovedActivity,
    /// Absent with leave or for an accepted reason. A possible attendance.
    Authorised,
    /// Absent without either. A possible attendance.
    Unauthorised,
    /// The student could not attend or did not have to: not a possible attendance.
    NotPossible,
    /// Nothing is collected, such as for a planned closure.
    NotCollected,
}

names!(Class, "a class", {
    Present => "present",
    ApprovedActivity => "approved_activity",
    Authorised => "authorised",
    Unauthorised => "unauthorised",
    NotPossible => "not_possible",
    NotCollected => "not_collected",
});

impl Class {
    /// Whether it is an absence, authorised or not.
    pub fn is_absence(self) -> bool {
        matches!(self, Self::Authorised | Self::Unauthorised)
    }
}

/// What the class of a code is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CodeSource {
    /// The regulations, and the DfE's data set and guidance.
    LawAndDfe,
    /// The DfE's data set and guidance.
    Dfe,
    /// Two independent secondary documents; the guidance itself could not be read.
    TwoDocuments,
    /// The person who made the table.
    Custom,
}

names!(CodeSource, "a source of a class", {
    LawAndDfe => "law_and_dfe",
    Dfe => "dfe",
    TwoDocuments => "two_documents",
    Custom => "custom",
});

/// A code, what it means, and when it is in force.
///
/// ```
/// use rollmark::codes::{Class, CodeRow, CodeTable};
///
/// let rows = [
///     CodeRow::new("A", "Absent with leave", Class::Authorised),
///     CodeRow::new("L", "Late", Class::Present).with_late(true),
/// ];
/// let table = CodeTable::custom("A school's own, 2026", rows)?;
/// let date = "2026-11-20".parse().unwrap();
/// assert_eq!(table.lookup(date, "A").unwrap().row.class, Class::Authorised);
/// # Ok::<(), rollmark::codes::CodeTableError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CodeRow {
    /// The code, of one or two characters.
    pub code: Box<str>,
    /// What it means, in a few words.
    pub meaning: Box<str>,
    /// What it counts as.
    pub class: Class,
    /// Whether the student was late, before or after the register closed.
    pub late: bool,
    /// Whether the school must add a note of the activity, the provision or the cause.
    pub needs_note: bool,
    /// The first date on which it is in force; `None` if it always was.
    pub valid_from: Option<NaiveDate>,
    /// The last date on which it is in force; `None` if it still is.
    pub valid_until: Option<NaiveDate>,
    /// What to use instead once it is no longer in force.
    pub replaced_by: Option<Box<str>>,
    /// What the class is based on.
    pub source: CodeSource,
}

setters!(CodeRow {
    with_late(late: bool) => late;
    with_note(needs_note: bool) => needs_note;
    with_valid_from(valid_from: NaiveDate) => Some(valid_from);
    with_valid_until(valid_until: NaiveDate) => Some(valid_until);
    with_replaced_by(replaced_by: &str) => Some(replaced_by.into());
    with_source(source: CodeSource) => source;
});

impl CodeRow {
    /// A code that is in force on every date. Its source is [`CodeSource::Custom`].
    pub fn new(code: &str, meaning: &str, class: Class) -> Self {
        Self {
            code: code.into(),
            meaning: meaning.into(),
            class,
            late: false,
            needs_note: false,
            valid_from: None,
            valid_until: None,
            replaced_by: None,
            source: CodeSource::Custom,
        }
    }

    /// Why the code should not be used on this date.
    fn warning(&self, date: NaiveDate) -> Option<CodeWarning> {
        match (self.valid_from, self.valid_until) {
            (Some(from), _) if date < from => Some(CodeWarning::NotYetInForce { from }),
            (_, Some(until)) if date > until => {
                let since = until.succ_opt().unwrap_or(until);
                Some(CodeWarning::Retired { since, replaced_by: self.replaced_by.clone() })
            }
            _ => None,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let starts_by_end_of = |a: &Self, b: &Self| match (a.valid_from, b.valid_until) {
            (Some(from), Some(until)) => from <= until,
            _ => true,
        };
        starts_by_end_of(self, other) && starts_by_end_of(other, self)
    }
}

/// Why a code that was found should not be used on the date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CodeWarning {
    /// The table has it from a later date on.
    #[non_exhaustive]
    NotYetInForce {
        /// The first date on which it is in force.
        from: NaiveDate,
    },
    /// It has been replaced.
    #[non_exhaustive]
    Retired {
        /// The first date on which it was no longer in force.
        since: NaiveDate,
        /// What to use instead.
        replaced_by: Option<Box<str>>,
    },
}

impl fmt::Display for CodeWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetInForce { from } => write!(f, "in force only from {from}"),
            Self::Retired { since, replaced_by: None } => write!(f, "no longer in force since {since}"),
            Self::Retired { since, replaced_by: Some(code) } => {
                write!(f, "no longer in force since {since}; use {code}")
            }
        }
    }
}

/// A code that a table has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundCode<'a> {
    /// The row that is in force on the date, or else the one closest to it.
    pub row: &'a CodeRow,
    /// Set if the row is not in force on the date.
    pub warning: Option<CodeWarning>,
}

/// Rows that contradict each other, or a mapping to a code that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeTableError {
    /// Two rows of one code are in force on one date.
    #[error("two rows of code {0} are in force on one date; give each dates of its own")]
    Overlapping(Box<str>),
    /// A letter is mapped to a code that the table does not have.
    #[error("letter {letter} is mapped to {code}, which is not a code of the table ({edition}); map it to one that is")]
    #[non_exhaustive]
    UnknownTarget {
        /// The school's letter.
        letter: Box<str>,
        /// What it was mapped to.
        code: Box<str>,
        /// The table's edition.
        edition: Box<str>,
    },
}

/// Codes with their classes, and how a school's own letters map to them. Codes and letters are compared exactly.
///
/// ```
/// use rollmark::codes::{Class, CodeTable};
///
/// let table = CodeTable::england().with_mapping("HOL", "G")?;
/// let date = "2026-11-20".parse().unwrap();
/// assert_eq!(table.lookup(date, "HOL").unwrap().row.class, Class::Unauthorised);
///
/// let retired = table.lookup(date, "H").unwrap();
/// assert_eq!(retired.row.class, Class::Authorised);
/// assert_eq!(retired.warning.unwrap().to_string(), "no longer in force since 2024-08-19; use C");
/// # Ok::<(), rollmark::codes::CodeTableError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeTable {
    jurisdiction: Jurisdiction,
    edition: Box<str>,
    /// Sorted by date.
    rows: BTreeMap<Box<str>, Vec<CodeRow>>,
    mapping: BTreeMap<Box<str>, Box<str>>,
}

impl CodeTable {
    /// England's codes as of August 2024.
    pub fn england() -> Self {
        Self::of(Jurisdiction::England, england::EDITION, england::rows())
    }

    /// A table of your own. The edition says whose codes they are and as of when, and is printed with every figure. A table
    /// without rows gives a class only to students who are there.
    ///
    /// # Errors
    /// Two rows of one code are in force on one date.
    pub fn custom(edition: &str, rows: impl IntoIterator<Item = CodeRow>) -> Result<Self, CodeTableError> {
        let table = Self::of(Jurisdiction::SchoolsOwn, edition, rows);
        for (code, rows) in &table.rows {
            if rows.iter().zip(rows.iter().skip(1)).any(|(row, next)| row.overlaps(next)) {
                return Err(CodeTableError::Overlapping(code.clone()));
            }
        }
        Ok(table)
    }

    fn of(jurisdiction: Jurisdiction, edition: &str, rows: impl IntoIterator<Item = CodeRow>) -> Self {
        let mut by_code: BTreeMap<Box<str>, Vec<CodeRow>> = BTreeMap::new();
        for row in rows {
            by_code.entry(row.code.clone()).or_default().push(row);
        }
        by_code.values_mut().for_each(|rows| rows.sort_by_key(|row| row.valid_from));
        Self { jurisdiction, edition: edition.into(), rows: by_code, mapping: BTreeMap::new() }
    }

    /// Says which code a school's own letter stands for. It takes priority over a code with that letter. No mapping is guessed.
    ///
    /// # Errors
    /// The table does not have the code.
    pub fn with_mapping(mut self, letter: &str, code: &str) -> Result<Self, CodeTableError> {
        if !self.rows.contains_key(code) {
            return Err(CodeTableError::UnknownTarget {
                letter: letter.into(),
                code: code.into(),
                edition: self.edition,
            });
        }
        self.mapping.insert(letter.into(), code.into());
        Ok(self)
    }

    /// Whose codes they are.
    pub fn jurisdiction(&self) -> Jurisdiction {
        self.jurisdiction
    }

    /// Whose codes they are and as of when, such as `England, August 2024`.
    pub fn edition(&self) -> &str {
        &self.edition
    }

    /// Every row, by code and date.
    pub fn rows(&self) -> impl Iterator<Item = &CodeRow> {
        self.rows.values().flatten()
    }

    /// What a letter means on a date: by the mapping, or as it stands. A code that is not in force on the date is found too,
    /// with a warning; `None` if the table does not have the code.
    pub fn lookup(&self, date: NaiveDate, letter: &str) -> Option<FoundCode<'_>> {
        self.unmapped(date, self.mapping.get(letter).map_or(letter, |code| code))
    }

    /// What a code of the table itself means on a date.
    pub(super) fn unmapped(&self, date: NaiveDate, code: &str) -> Option<FoundCode<'_>> {
        let rows = self.rows.get(code)?;
        let last_begun = rows.iter().rev().find(|row| row.valid_from.is_none_or(|from| from <= date));
        let row = last_begun.or(rows.first())?;
        Some(FoundCode { row, warning: row.warning(date) })
    }
}
