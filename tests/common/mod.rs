//! What several test binaries share; none uses all of it.
#![allow(dead_code)]

pub mod case;
pub mod program;
pub mod records;
pub mod source;
pub mod tenant;
