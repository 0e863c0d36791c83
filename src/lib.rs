//! Decides a school's AM and PM attendance marks, says why, and brings a portal's store up to date.
//!
//! ```
//! use rollmark::model::{OutOfSchool, Record, Registration, Session, StudentId};
//! use rollmark::rules::{Resolver, Rules, Scope, SyncWindow};
//!
//! let student = StudentId::new("4733683260");
//! let mut row = Registration::new("4733683260", "2026-11-20T08:40:00".parse()?);
//! row.last_updated = Some("2026-11-20T08:52:00".parse()?);
//! let mut dentist = OutOfSchool::new("4733683260", "2026-11-20T08:00:00".parse()?, Some("2026-11-20T11:00:00".parse()?));
//! dentist.last_updated = Some("2026-11-20T09:14:00".parse()?);
//!
//! let today = "2026-11-20".parse()?;
//! let scope = Scope::all(SyncWindow::default().ending(today));
//! let mut resolver = Resolver::new(Rules::new("Europe/London".parse()?), scope);
//! resolver.push(Record::OutOfSchool(dentist));
//! resolver.push(Record::Registration(row));
//! let mark = resolver.finish()?.mark(&student, today, Session::Am).ok_or("no mark")?;
//! assert_eq!(
//!     format!("{mark}: {}", mark.decision()),
//!     "absent: the out-of-school record, updated 2026-11-20T09:14:00Z, is newer than the registration, \
//!      updated 2026-11-20T08:52:00Z"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Words
//! A school day has two **sessions**, AM and PM. For each the portal shows one **mark** per student. It follows from
//! **registrations** (rows of registers) and **out-of-school records**; the **code table** says what their codes mean,
//! and **registration periods** can say which register is which session's. All dates are school dates, in the school's
//! own time zone.
//!
//! # Design
//! Rooms, ground floor first; a room knows only those below it.
//!
//! | room | what it holds |
//! |---|---|
//! | [`model`] | what the words mean |
//! | [`rules`] | the decisions, pure |
//! | [`explain`] | "why is this mark wrong?": findings with evidence and advice, pure |
//! | `source` | where records come from: the trait; fetches that are kept and replayed |
//! | `isams` | the iSAMS source over HTTP |
//! | `store` | where marks live: the trait, memory, SQLite |
//! | `sync` | fetch → resolve → plan → guard → apply → report |
//! | `support` | the desk: diagnosis, audit and check from a source, with or without a store |
//! | `testing` | the fake school and source, the mock, the iSAMS simulator, what every source and every store must do |
//!
//! `model`, `rules` and `explain` know no I/O, no async and no clock; they are all of the crate with default features
//! off. A feed is
//! folded as it is read: memory grows with students × days, not with rows. Planning is a pure function of what the store
//! holds and what was resolved, and its output is data. `sync` knows the traits, never a backend.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod explain;
#[cfg(feature = "isams")]
pub mod isams;
pub mod model;
pub mod rules;
#[cfg(feature = "sync")]
pub mod source;
#[cfg(feature = "sync")]
pub mod store;
#[cfg(feature = "sync")]
pub mod support;
#[cfg(feature = "sync")]
pub mod sync;
#[cfg(feature = "testing")]
pub mod testing;

/// The README's examples, so that they are compiled.
#[cfg(all(doctest, feature = "isams"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
