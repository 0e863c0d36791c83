//! "Why is this mark wrong?": the diagnosis of one student's day, with evidence and what to do; which PM start fits a
//! school; and what other rules would change.
//!
//! Pure, like the rules: records go in, findings come out.

mod apart;
mod audit;
mod cures;
mod diagnosis;
mod finding;
mod findings;
mod other_rules;
mod question;
mod staleness;
mod what_if;
mod wording;
pub(crate) mod words;

pub use audit::{Cell, PatternChange, PmAudit, PmAuditor, StartAudit};
pub use diagnosis::{Contender, DayRecord, Diagnoser, Diagnosis, SessionDiagnosis};
pub use finding::{Finding, FindingName};
pub use question::{Expected, Question, ShownMark};
pub use staleness::{Certainty, MeasuredAge, ReplyAge};
pub use what_if::{MarkDifference, differences};
pub use wording::Wording;
