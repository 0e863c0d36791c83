//! The types that the other modules share: ids, times, the records that a source reads, and the marks that a portal
//! shows.
//!
//! Nothing here decides anything; the decisions are in [`rules`](crate::rules).

mod cause;
mod ids;
mod issue;
mod mark;
mod names;
mod record;
mod time;
mod zone;

#[cfg(feature = "sync")]
pub(crate) use cause::opaque_error;
pub use cause::{Cause, Retry};
pub(crate) use ids::compare_ids;
pub use ids::{CodeId, PeriodId, RawCode, RecordId, SchoolId, StudentId};
pub use issue::{Issue, IssueCount, Issues};
pub(crate) use mark::time_text;
pub use mark::{
    Decision, DecisionRule, Loser, LoserReason, Mark, MarkContent, PickedBy, PickedRegistration, RecordKind,
    RecordReference, Status, clock_text, stamp_text,
};
#[cfg(feature = "sync")]
pub(crate) use mark::{MarkLine, is_zero};
pub use names::UnknownName;
pub(crate) use names::{names, setters};
pub use record::{
    Code, OutOfSchool, Record, Registration, RegistrationPeriod, SessionMark, SourceVerdict, UnreadableField,
};
pub(crate) use time::FIRST_REAL_YEAR;
pub use time::{FeedTime, Session, UnreadableTime};
pub use zone::{UnknownZone, Zone, ZoneOrigin};
