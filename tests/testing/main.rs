//! The doubles, and what every source and every store must do.

mod conformance;
mod mock;
mod simulator;
