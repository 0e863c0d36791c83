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
//! # Where to go on
//! - [The rules](guide::rules): what is decided, and how. The documentation cites them by number, R1 to R11.
//! - [In a portal](guide::embedding), in Rust or, by the command `rollmark`, in any other language.
//! - [Your own source](guide::your_own_source), [your own store](store::your_own_store), [testing a portal](guide::testing).
//! - [Design](guide::design): the rooms of this crate.
//!
//! # Features
//! | feature | what it brings |
//! |---|---|
//! | none | [`model`], [`rules`], [`explain`]: pure, without tokio, HTTP or TLS |
//! | `sync` | [`source`], [`store`], [`sync`], [`support`] |
//! | `isams` (default) | [`isams`], and `sync` |
//! | `rustls` (default) | TLS for it |
//! | `sqlite` | [`SqliteStore`](store::SqliteStore) |
//! | `testing` | [`testing`]: the fake school and source, conformance |
//! | `mock` | `MockAttendanceSource` |
//! | `simulator` | an iSAMS tenant on a loopback port |
//! | `cli` | the command `rollmark` |
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(missing_debug_implementations, unreachable_pub)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod explain;
#[cfg(any(doc, doctest))]
pub mod guide;
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
