//! The engine and its guards.

mod guards;
mod sweep;
mod sync;
