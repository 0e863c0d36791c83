//! Test doubles: a school and a source in memory, a mock, an iSAMS tenant on a loopback port, and tests of what every source
//! and every store must do.
//!
//! - [`FakeSchool`] and [`FakeSource`] behave like real ones. They test the behaviour of your own code.
#![cfg_attr(feature = "mock", doc = "- [`MockAttendanceSource`] is for one precise fault.")]
#![cfg_attr(feature = "simulator", doc = "- The [`simulator`] serves a `FakeSchool` over HTTP as iSAMS would.")]
//! - [`conformance`] tests a source or a store of your own.

pub mod conformance;
mod fake_school;
mod fake_source;
#[cfg(feature = "mock")]
mod mock;
#[cfg(feature = "simulator")]
pub mod simulator;
mod test_clock;

pub use fake_school::{FakeSchool, OutOfSchoolBuilder, RegistrationBuilder};
pub use fake_source::FakeSource;
#[cfg(feature = "mock")]
pub use mock::MockAttendanceSource;
pub use test_clock::TestClock;
