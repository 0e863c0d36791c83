//! Reading a source, and keeping and replaying what was read.

#[path = "../common/mod.rs"]
mod common;

mod reading;
mod replay;
