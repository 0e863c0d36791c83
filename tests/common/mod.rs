//! What several test binaries share; none uses all of it.
#![allow(dead_code)]

pub mod case;
#[cfg(feature = "__tests")]
pub mod program;
#[cfg(feature = "__tests")]
pub mod records;
#[cfg(feature = "sync")]
pub mod source;
pub mod tenant;
