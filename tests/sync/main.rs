//! The engine and its guards.

mod guards;
mod sync;
