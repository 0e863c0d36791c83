//! The iSAMS sources over HTTP: [`Batch`] and [`Rest`].
//!
//! | | [`Batch`] | [`Rest`] |
//! |---|---|---|
//! | opened by | an API key, or an OAuth client | an OAuth client |
//! | reaches | any dates | today only |
//! | has times of update | yes | no: each mark is iSAMS's own verdict |
//! | has out-of-school records | yes | no |
//! | replies | can be 24 hours old, unless the key says otherwise | are not cached (assumed) |
//!
//! What is known of these interfaces, and what is only assumed, is on the page [iSAMS facts](crate::guide::isams_facts).
//! [`Batch::probe`] shows what a tenant's replies look like, without any value, so that a school can settle what is assumed.
//!
//! # Nothing is left out silently
//! A message of the API is an error, whatever the status and wherever it stands, also beside rows. So are a second document,
//! data after the end of the compressed data, part of a reply (status 206), a name that occurs twice in a JSON object, a page
//! that repeats another, a list that counts more records than it holds, and text where a container should be. If at least 5
//! out-of-school records have no time of update (or no code) under a known name, and an unknown field may hold it, that is an
//! error; with fewer records it is the issue `undecided_field`.
//!
//! # Limits
//! Ids have at most 64 characters; a longer one is an error. Names are cut after 100 characters and free texts after 250 (issue
//! `bad_value`). The records of a reply, its bytes, and the bytes that a fetch holds are limited
//! ([`Batch::with_max_rows_per_day`], [`Batch::with_max_bytes`], [`Batch::with_max_held_bytes`]).
//!
//! # Failures
//! A request is tried at most 4 times within the time limit of its fetch, if a new try can help: after broken connections and
//! documents, deadlocks, lock time-outs, and the statuses 408, 429, 502, 503 and 504. The waits double each time; if the tenant
//! asks for a longer wait, that counts. A wait of more than 60 seconds, or past the time limit, is not sat out: the fetch ends
//! with an error that says how long the tenant asked to wait. Connecting may take 10 seconds, and a pause in a reply 2 minutes.
//! Redirects are followed on the same host and port only.

mod auth;
mod batch;
mod body;
mod confidential;
mod escapes;
mod failure;
mod fields;
mod json;
mod message;
mod page;
mod pager;
mod plain;
mod probe;
mod reply;
mod request;
mod rest;
mod settings;
mod text;
mod transport;
mod undecided;
mod vocabulary;
mod xml;

pub use batch::Batch;
pub use fields::FieldNames;
pub use probe::{ContainerShape, EndDate, FieldShape, MethodShape, Probe};
pub use request::Format;
pub use rest::Rest;
