//! The example programs that the tests drive from outside.

use std::path::PathBuf;

/// An example's program, which Cargo builds beside the tests.
pub fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let program = path.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is not built; run all tests with cargo test --all-features", program.display());
    program
}
