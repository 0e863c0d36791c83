//! The command, which the tests drive from outside.

use std::process::Command;

/// A subcommand. Nothing of the tests' own environment names a tenant.
pub fn rollmark(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollmark"));
    for name in ["ISAMS_URL", "ISAMS_API_KEY", "ISAMS_CLIENT_ID", "ISAMS_CLIENT_SECRET"] {
        command.env_remove(name);
    }
    command.arg(subcommand);
    command
}
