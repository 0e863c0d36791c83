//! What every source and every store must do, as test functions for your own implementation.
//!
//! Each function panics with a sentence where something is wrong, so it stands in a test as it is.

pub mod source;
pub mod store;
