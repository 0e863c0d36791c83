//! One school's sync as data, for those who run many schools from their own job queue or scheduler.
//!
//! The command `rollmark fleet` runs the schools of a file on one machine; [Running a fleet](crate::guide::fleet) says how far
//! that goes, and what comes after it.

mod job;
mod spelling;

pub use job::{Interface, PmRuleKind, SyncJob};
