//! What attendance codes mean, what marks add up to, and what a parent may see yet. Pure: no I/O and no clock.
//!
//! [`CodeTable::england`] holds the codes of England as of August 2024, checked in November 2026; nothing is claimed about
//! later changes. Each row says what it is based on ([`CodeSource`]). The law is The School Attendance (Pupil Registration)
//! (England) Regulations 2024, SI 2024/208, regulation 10. It applies to independent schools too, but not to boarders.
//! The classes are those of the weekly data set of the Department for Education (DfE) and of its guidance "Working together
//! to improve school attendance". If two independent documents confirm a class, but the guidance itself could not be
//! read, the row says [`CodeSource::TwoDocuments`].
//!
//! Other jurisdictions have other codes, and other classes for the same letter. [`CodeTable::custom`] makes a table for
//! them.
//!
//! # Why a percentage can differ from the DfE's
//! - The DfE looks again only at codes that were changed within seven days of the session. A [`Summary`] counts what the
//!   marks say now.
//! - The DfE leaves out boarders. A summary counts the marks that it is given.
//! - Schools send their data twice a day, so the DfE can hold an earlier state of the same day.
//! - A summary leaves out what is not known: registers that were not taken, letters without a class, and sessions without a
//!   mark. It counts them by reason, so that the difference can be explained.

mod class;
mod england;
mod settling;
mod summary;
mod table;

pub use class::{CodedMark, MarkClass};
pub use settling::{Settling, SettlingPolicy, UnsettledReason};
pub use summary::{Part, Percentage, Summary, Sums};
pub use table::{Class, CodeRow, CodeSource, CodeTable, CodeTableError, CodeWarning, FoundCode, Jurisdiction};
