//! How the command begins and ends.

use std::error::Error;
use std::future::Future;
use std::io::IsTerminal;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use rollmark::store::StoreError;
use rollmark::sync::SyncError;

use crate::output::{Failure, tell, tell_error, wrong_flags};

/// Becomes ready when SIGINT or SIGTERM asks the program to stop, with the exit code for it.
pub type Stop = Shared<BoxFuture<'static, u8>>;

/// Reads the command line. A wrong flag ends the program with 2 and one line without secrets.
pub fn flags<F: Parser>() -> F {
    F::try_parse().unwrap_or_else(|error| match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ if error.use_stderr() => wrong_flags(format!("{}; --help lists the flags", one_line(error))),
        _ => error.exit(),
    })
}

/// What is wrong with the flags. A secret at a wrong place is not repeated.
pub fn one_line(mut error: clap::Error) -> String {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        // A stray word can be anything.
        let flag = argument.split('=').next().filter(|flag| flag.starts_with('-'));
        let shown = flag.map_or(COVER.to_owned(), covered);
        error.insert(ContextKind::InvalidArg, ContextValue::String(shown));
    }
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) {
        let takes_none = error.kind() == ErrorKind::TooManyValues;
        let shown = if takes_none { COVER.to_owned() } else { covered(value) };
        error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        error.insert(ContextKind::InvalidSubcommand, ContextValue::String(COVER.to_owned()));
    }
    // This tip repeats the argument.
    error.remove(ContextKind::Suggested);
    let text = error.render().to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
    let message = message.split("\n\nFor more information").next().unwrap_or_default().replace("\n\n  tip:", ";");
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Stands for what may be a secret.
const COVER: &str = "…";

/// The text without words that may be keys or secrets: those of 16 or more characters with a digit. Of what holds an
/// address nothing is left: it can hold a password, and a password can hold spaces.
pub fn covered(text: &str) -> String {
    if text.contains("://") || text.contains('@') {
        return COVER.to_owned();
    }
    let may_be_secret =
        |word: &&str| word.chars().count() >= 16 && word.contains(|letter: char| letter.is_ascii_digit());
    let words: Vec<&str> = text.split(' ').map(|word| if may_be_secret(&word) { COVER } else { word }).collect();
    words.join(" ")
}

/// Writes logs to standard error, as RUST_LOG says; in colour on a terminal, unless NO_COLOR is set.
pub fn log() {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_default();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(!is_plain && std::io::stderr().is_terminal())
        // Where standard error is closed, its own error line would panic.
        .log_internal_errors(false)
        .init();
}

#[cfg(unix)]
pub fn stop() -> Result<Stop, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        }
    };
    Ok(stop.boxed().shared())
}

#[cfg(not(unix))]
pub fn stop() -> Result<Stop, Failure> {
    Ok(tokio::signal::ctrl_c().map(|_| 130).boxed().shared())
}

/// The work's result, unless a signal stops it first.
pub async fn unless_stopped<T>(stop: &Stop, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        result = work => result,
        _ = stop.clone() => Err("stopped by a signal".into()),
    }
}

/// What a failing store says does not name the operating system's reason, which is behind it.
pub fn with_reason(error: &Failure) -> String {
    let of_sync = || error.downcast_ref::<SyncError>().and_then(SyncError::store_error);
    let store = error.downcast_ref::<StoreError>().or_else(of_sync);
    let reason = store.and_then(Error::source);
    reason.map_or_else(|| error.to_string(), |reason| format!("{error} ({reason})"))
}

/// Ends the program with an exit code, or with an error's line. Everything that cleans up has to be dropped by now: a
/// thread that still waits for a pipe is not waited for.
pub fn end(result: Result<u8, Failure>, stopped: Option<u8>) -> ! {
    let code = match (result, stopped) {
        (result, Some(code)) => {
            let _ = result.map_err(|error| tell(&error.to_string()));
            code
        }
        (Ok(code), None) => code,
        (Err(error), None) => {
            tell_error(&with_reason(&error));
            1
        }
    };
    std::process::exit(code.into())
}
