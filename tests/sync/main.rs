//! The engine and its guards.

#[path = "../common/mod.rs"]
mod common;
mod guards;
#[cfg(target_os = "linux")]
mod memory;
mod sweep;
mod sync;
