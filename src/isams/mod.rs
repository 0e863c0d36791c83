//! The iSAMS source over HTTP.
//!
//! What is **verified** was seen in public documentation, in public clients or in real replies: the Batch API's address,
//! request body, key cache and error messages, the nodes of registration statuses and of the code table, a declaration
//! of UTF-16 over 8-bit bytes, `NULL` as a missing node; in JSON, attributes as `@Name`, every scalar as a string, one child
//! as an object, several as an array, an empty container as null, missing or an empty string; the address and the reply of the
//! token request. What is **assumed**, because nothing public settles it: the nodes of out-of-school records and registration
//! periods (see [`FieldNames`]), that `EndDate` is exclusive (one more day is asked for, and the rest is dropped), that
//! out-of-school records are filtered by their beginning (they are asked for from 180 days before the window on), that the
//! date filters are part of the cache's key, that a reply can be cut at 2,000 rows, that OAuth credentials go in the form
//! body, and the address at which a token is given back.
//!
//! **Failures.** A request is tried up to 4 times within the deadline of its fetch, if another try can help: after broken
//! connections and documents, deadlocks, lock time-outs and the statuses 408, 429, 502, 503 and 504, after a wait that about
//! doubles, or that the tenant asks for if that is longer (60 seconds at most). A connection may take 10 seconds, a pause in a reply 2 minutes.
//! Redirects are followed on the same host and port only.
//!
//! The **REST API** ([`Isams::rest`]) is an OAuth client's. Verified are its paths, its paging, and the fields of periods,
//! registers and codes. It gives no times of update and no out-of-school records, and lists the current day only
//! (inferred): a sync over it narrows its window to today, every mark is iSAMS's own verdict, and nothing older is made up.
//! Assumed: a register's time is the field `time`, else `start`; every absence code counts as an absence.

#[cfg(feature = "isams")]
mod auth;
#[cfg(feature = "isams")]
mod batch;
#[cfg(feature = "isams")]
mod body;
#[cfg(feature = "isams")]
mod escapes;
#[cfg(feature = "isams")]
mod fields;
#[cfg(feature = "isams")]
mod json;
#[cfg(feature = "isams")]
mod message;
#[cfg(feature = "isams")]
mod page;
#[cfg(feature = "isams")]
mod probe;
#[cfg(feature = "isams")]
mod reply;
#[cfg(feature = "isams")]
mod rest;
#[cfg(feature = "simulator")]
pub mod simulator;
#[cfg(feature = "isams")]
mod source;
#[cfg(feature = "isams")]
mod transport;
#[cfg(feature = "isams")]
mod undecided;
#[cfg(feature = "isams")]
mod xml;

#[cfg(feature = "isams")]
pub use fields::FieldNames;
#[cfg(feature = "isams")]
pub use probe::{ContainerShape, EndDate, FieldShape, MethodShape, Probe};
#[cfg(feature = "isams")]
pub use source::{Format, Isams};
