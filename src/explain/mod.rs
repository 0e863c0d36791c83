//! «Why is this mark wrong?»: the diagnosis of one student's day, with evidence and what to do.
//!
//! Pure, like the rules: records go in, findings come out.

mod diagnosis;
mod finding;
mod findings;
mod question;

pub use diagnosis::{DayRecord, Diagnoser, Diagnosis, SessionDiagnosis};
pub use finding::{Finding, FindingName};
pub use question::{Expected, Question, ShownMark};
