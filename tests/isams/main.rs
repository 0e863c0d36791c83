//! The iSAMS sources, over HTTP on this machine.

#[path = "../common/mod.rs"]
mod common;

mod batch;
mod probe;
mod rest;
mod transport;
