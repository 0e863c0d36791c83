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
//! A school day has two **sessions**, AM and PM. For each session the portal shows one **mark** per student. It follows from
//! **registrations** (rows of registers) and **out-of-school records**. The **code table** says what their codes mean, and
//! **registration periods** can say which register belongs to which session. All dates are dates in the school's own time
//! zone.
//!
//! # Where to start
//! | you want to | look at |
//! |---|---|
//! | decide marks from records that you have | the example above, [`Resolver`](rules::Resolver) |
//! | know why a mark is what it is | [`Mark::decision`](model::Mark::decision), and [the rules](guide::rules), which this documentation cites by number |
//! | know what codes mean, what marks add up to, and what a parent may see yet | [`codes`] |
//! | keep a portal up to date from iSAMS | [In a portal](guide::embedding) |
//! | answer "this child's mark is wrong" | `support::diagnose`, or [`Diagnoser`](explain::Diagnoser) without I/O |
//! | check a school's settings before it goes live | `support::Support::check` |
//! | read another management system | [Your own source](guide::your_own_source) |
//! | keep marks in your own database | `store::MarkStore` |
//! | test your portal | [Testing a portal](guide::testing) |
//! | use no Rust at all | the command `rollmark`, also under [In a portal](guide::embedding) |
//!
//! [The guide](guide) has these pages, what is known about iSAMS, the design of this crate, and the changelog.
//!
//! # Features
//! | feature | adds | default |
//! |---|---|---|
//! | (none) | `model`, `rules`, `codes`, `explain`: pure, also for WebAssembly; no async runtime, HTTP or TLS | |
//! | `isams` | the iSAMS source over the Batch API and the REST API; implies `sync` | yes |
//! | `rustls` | TLS for it | yes |
//! | `sync` | `source`, `store`, `sync`, `support` | by `isams` |
//! | `sqlite` | `SqliteStore`; implies `sync` | |
//! | `postgres` | `PostgresStore`, with a pool of the caller's; implies `sync` | |
//! | `fleet` | one school's sync as data, for a job queue; implies `isams` | |
//! | `testing` | the fake school and source, and the conformance suites; implies `sync` | |
//! | `mock` | `MockAttendanceSource`; implies `testing` | |
//! | `simulator` | iSAMS's interfaces on a loopback port; implies `isams` and `testing` | |
//! | `cli` | the command `rollmark` | |
//!
//! # What it does not do
//! It is not a portal, a user interface, a scheduler, or a client for the rest of iSAMS. It never writes to the management
//! system.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(missing_debug_implementations, unreachable_pub)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod codes;
pub mod explain;
#[cfg(feature = "fleet")]
pub mod fleet;
// For the documentation and its tests alone.
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
