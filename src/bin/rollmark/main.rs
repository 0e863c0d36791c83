//! The command: one file a subcommand. It uses the public API only.

mod apply;
mod audit;
mod check;
mod diagnose;
mod erase;
mod flags;
mod history;
mod output;
#[cfg(feature = "postgres")]
mod postgres;
mod probe;
mod program;
mod prune;
mod registers;
mod simulate;
mod summary;
mod sync;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use futures::FutureExt;
use output::{Failure, say_text};
use program::{Stop, end, log, stop, unless_stopped};

/// Reads a school's registers, decides every AM and PM mark, says why, and keeps a store up to date.
#[derive(Parser)]
#[command(name = "rollmark", version)]
struct Rollmark {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Sync(sync::Flags),
    Diagnose(diagnose::Flags),
    Check(check::Flags),
    Audit(audit::Flags),
    History(history::Flags),
    Summary(summary::Flags),
    Registers(registers::Flags),
    Probe(probe::Flags),
    Apply(apply::Flags),
    Erase(erase::Flags),
    Prune(prune::Flags),
    Simulate(simulate::Flags),
    /// Prints completions for a shell.
    #[command(
        after_help = "Example:\n  rollmark completions bash > ~/.local/share/bash-completion/completions/rollmark"
    )]
    Completions {
        shell: Shell,
    },
}

#[tokio::main]
async fn main() {
    let command = program::flags::<Rollmark>().command;
    log();
    let (result, stopped) = match stop() {
        Ok(stop) => (run(command, &stop).await, stop.now_or_never()),
        Err(error) => (Err(error), None),
    };
    end(result, stopped)
}

/// The exit code. Where a signal must not drop the work, the subcommand takes the signal itself.
async fn run(command: Command, stop: &Stop) -> Result<u8, Failure> {
    match command {
        Command::Sync(flags) => sync::run(flags, stop).await,
        Command::Diagnose(flags) => unless_stopped(stop, diagnose::run(flags)).await,
        Command::Check(flags) => unless_stopped(stop, check::run(flags)).await,
        Command::Audit(flags) => unless_stopped(stop, audit::run(flags)).await,
        Command::History(flags) => unless_stopped(stop, history::run(flags)).await,
        Command::Summary(flags) => unless_stopped(stop, summary::run(flags)).await,
        Command::Registers(flags) => unless_stopped(stop, registers::run(flags)).await,
        Command::Probe(flags) => unless_stopped(stop, probe::run(flags)).await,
        Command::Apply(flags) => apply::run(flags, stop).await,
        Command::Erase(flags) => unless_stopped(stop, erase::run(flags)).await,
        Command::Prune(flags) => unless_stopped(stop, prune::run(flags)).await,
        Command::Simulate(flags) => unless_stopped(stop, simulate::run(flags)).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Rollmark::command(), "rollmark", &mut script);
            say_text(&script)
        }
    }
}
