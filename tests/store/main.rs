//! Stores, and what is said of broken ones.

#[path = "../common/mod.rs"]
mod common;

mod broken;
mod sqlite;
mod store;
