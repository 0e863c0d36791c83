//! What can be wrong with a reply, in words.

use std::io;

use super::body::DEEPEST;
use super::text::unknown_name;
use crate::model::Cause;
use crate::source::{FetchedKind, SourceError, SourceErrorKind};

/// What helps where a reply does not come through.
pub(super) const CHECK_NETWORK: &str =
    "run again later; if it stays so, check the network, and any proxy between here and iSAMS";

pub(super) fn bad_reply(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::BadReply, message)
}

pub(super) fn too_large(what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::TooLarge, format!("the reply holds {what}, so reading stopped there"))
}

pub(super) fn too_deep() -> SourceError {
    bad_reply(format!("the reply is nested more than {DEEPEST} levels deep, as none of iSAMS's is; check the address"))
}

pub(super) fn too_many_fields() -> SourceError {
    too_large("a record with hundreds of fields")
}

/// More records of a kind than a school has.
pub(super) fn too_many(kind: FetchedKind, most: u64) -> SourceError {
    SourceError::new(
        SourceErrorKind::TooLarge,
        format!(
            "the reply holds more than {most} {kind}, so reading stopped there; ask for fewer days, or raise max_rows_per_day if \
             the school really has that many"
        ),
    )
}

/// The error that a failed read stands for: our own, if one of our readers raised it.
pub(super) fn read_error(error: &io::Error) -> SourceError {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<SourceError>());
    own.cloned().unwrap_or_else(broken_off)
}

pub(super) fn broken_off() -> SourceError {
    let message = format!("the connection broke off in the middle of the reply; {CHECK_NETWORK}");
    SourceError::temporary(SourceErrorKind::Connection, message)
}

/// The error for a status with which iSAMS may answer a little later; `None` for other statuses. `page` and `said` end the
/// two parts of its text.
pub(super) fn cannot_answer_now(status: u16, page: &str, said: &str) -> Option<SourceError> {
    let kind = match status {
        429 => SourceErrorKind::Throttled,
        408 | 502..=504 => SourceErrorKind::Server,
        _ => return None,
    };
    Some(SourceError::temporary(kind, format!("iSAMS can't answer now (HTTP status {status}{page}){said}")))
}

pub(super) fn not_text() -> SourceError {
    bad_reply(
        "the reply is neither UTF-8 nor UTF-16 with a byte order mark; check the address, and if it is right, ask iSAMS \
         support",
    )
}

pub(super) fn goes_on() -> SourceError {
    bad_reply("the reply goes on after the end of its document")
}

pub(super) fn text_for_records() -> SourceError {
    bad_reply("the reply holds text where iSAMS sends records; check the address")
}

pub(super) fn other_json() -> SourceError {
    bad_reply("the reply is JSON, but not from iSAMS; check the address")
}

/// One object has two fields of this name.
pub(super) fn name_twice(name: &str) -> SourceError {
    let name = unknown_name(name);
    bad_reply(format!(
        "the reply holds {name} twice in one object, so that it isn't clear which of the two is right; ask iSAMS support"
    ))
}

pub(super) fn ended_early() -> SourceError {
    SourceError::temporary(
        SourceErrorKind::BadReply,
        "the reply ends in the middle of the document; run again later; if it stays so, ask iSAMS support",
    )
}

pub(super) fn json_error(error: &serde_json::Error) -> SourceError {
    broken_json(error).with_cause(Cause::of_json(error))
}

/// The same for JSON whose parser does not know at which byte it is.
pub(super) fn json_error_at(error: &serde_json::Error, byte: u64) -> SourceError {
    broken_json(error).with_cause(Cause::of_json_at(error, format_args!("at byte {byte}")))
}

fn broken_json(error: &serde_json::Error) -> SourceError {
    match error.is_eof() {
        true => ended_early(),
        false => bad_reply("the reply is not well-formed JSON; check the address"),
    }
}

pub(super) fn web_page() -> SourceError {
    bad_reply("the reply is an HTML page instead of data, a login page or a proxy's; check the address")
}

pub(super) fn bad_record(message: String) -> SourceError {
    SourceError::new(SourceErrorKind::BadRecord, message)
}
