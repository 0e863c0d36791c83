//! The iSAMS source over HTTP.
//!
//! What is **verified** was seen in public documentation, in public clients or in real replies: the Batch API's address,
//! request body, key cache and error messages, the nodes of registration statuses and of the code table, a declaration
//! of UTF-16 over 8-bit bytes, `NULL` as a missing node; in JSON, attributes as `@Name`, every scalar as a string, one child
//! as an object, several as an array, an empty container as null, missing or an empty string; the address, the form body and
//! the reply of the token request; that a key can be limited to some students, so that whole students can be hidden. What is **assumed**, because nothing public settles it: the nodes of out-of-school records and registration
//! periods (see [`FieldNames`]), that `EndDate` is exclusive (one more day is asked for, and the rest is dropped), that
//! out-of-school records are filtered by their beginning (they are asked for from 180 days before the window on), that the
//! date filters are part of the cache's key, that a reply can be cut at 2,000 rows, and the address at which a token is given back.
//!
//! **What is not passed over in silence.** A message of the API is an error whatever the status and wherever it stands, also
//! beside rows. So are a second document, a second part of compressed data, part of a reply (206), a name twice in a JSON
//! object, a page that repeats another, a list that counts more records than it holds, and a text where a container should
//! be. A field of out-of-school records that may
//! hold their time of update or their code under an unknown name is an error from 5 records on; below that, the issue
//! `undecided_field` names it.
//!
//! **Bounds.** Ids have up to 64 characters; longer ones are errors. Names are cut after 100 characters and free texts after
//! 250 (issue `bad_value`). Records of a kind, bytes of a reply and bytes that one fetch holds have limits
//! ([`Batch::with_max_rows_per_day`], [`Batch::with_max_bytes`], [`Batch::with_max_held_bytes`]).
//!
//! **Failures.** A request is tried up to 4 times within the deadline of its fetch, if another try can help: after broken
//! connections and documents, deadlocks, lock time-outs and the statuses 408, 429, 502, 503 and 504, after a wait that about
//! doubles, or that the tenant asks for if that is longer (60 seconds at most). A connection may take 10 seconds, a pause in a reply 2 minutes.
//! Redirects are followed on the same host and port only.
//!
//! The **REST API** ([`Rest`]) is an OAuth client's. Verified are its paths, its paging, and the fields of periods,
//! registers and codes. It gives no times of update and no out-of-school records, and lists the current day only
//! (inferred): a sync over it narrows its window to today, every mark is iSAMS's own verdict, and nothing older is made up.
//! Assumed: a register's time is the field `time`, else `start`; every absence code counts as an absence.

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
