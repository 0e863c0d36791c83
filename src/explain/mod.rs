//! "Why is this mark wrong?": the diagnosis of one student's day, with evidence and what to do; which PM start fits a
//! school; and what other rules would change.
//!
//! Pure, like the rules: records go in, findings come out. A finding is data ([`Evidence`], [`Cure`]) with English
//! sentences; a portal in another language can make its own sentences from the data.

mod apart;
mod audit;
mod causes;
mod cures;
mod day;
mod diagnosis;
mod finding;
mod other_rules;
mod question;
mod staleness;
mod what_if;
mod wording;
pub(crate) mod words;

pub use audit::{Cell, PatternChange, PmAudit, PmAuditor, StartAudit};
pub use day::{Contender, DayRecord};
pub use diagnosis::{Diagnoser, Diagnosis, SessionDiagnosis};
pub use finding::{Cure, Evidence, Finding, FindingName, Reason, Step};
pub use question::{Expected, Question, ShownMark};
pub use staleness::{Certainty, MeasuredAge, ReplyAge};
pub use what_if::{MarkDifference, differences};
pub use wording::Wording;
