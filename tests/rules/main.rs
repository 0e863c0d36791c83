//! The rules, by example, by property and by worked case.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "simulator")]
mod cases;
#[cfg(feature = "__tests")]
mod properties;
mod rules;
