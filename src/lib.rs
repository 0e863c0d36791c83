//! Decides a school's AM and PM attendance marks, says why, and brings a portal's store up to date.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod model;
pub mod rules;
#[cfg(feature = "sync")]
pub mod source;
#[cfg(feature = "sync")]
pub mod store;
#[cfg(feature = "sync")]
pub mod sync;
