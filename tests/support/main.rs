//! What a support desk asks: diagnosis, audit, check, and how old replies are.

#[path = "../common/mod.rs"]
mod common;

mod audit;
mod check;
mod diagnosis;
mod staleness;
