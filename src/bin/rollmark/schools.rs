//! A file of schools: their settings are the flags of `sync`.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::builder::Resettable;
use clap::{Args, Command, FromArgMatches};
use toml::{Table, Value};

use crate::program::one_line;
use crate::sync;

/// A school to sync.
pub struct School {
    pub id: String,
    /// Where it is read, to limit how many are read there at once.
    pub host: String,
    pub flags: sync::Flags,
}

/// Flags that a file can't set: secrets are named, and what concerns the whole fleet is the fleet's own flag.
const NOT_IN_A_FILE: [&str; 6] = ["api-key", "client-secret", "school", "now", "dry-run", "save-plan"];

/// Reads a file of schools. Everything that can be wrong is found here, before anything runs.
///
/// The error is one line without secrets.
pub fn read_schools(path: &Path, now: Option<DateTime<Utc>>, dry_run: bool) -> Result<Vec<School>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => format!("can't read {shown}: it is not UTF-8 text"),
        _ => format!("can't read {shown}: {error}"),
    })?;
    let mut file: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(0, |span| 1 + text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count());
        format!("{shown} is not TOML, line {line}: {}", error.message().replace('\n', " "))
    })?;
    let defaults = match file.remove("defaults") {
        None => Table::new(),
        Some(Value::Table(defaults)) => defaults,
        Some(_) => return Err(format!("{shown}: defaults is not a table; write [defaults]")),
    };
    let schools = match file.remove("school") {
        Some(Value::Array(schools)) => schools,
        None => return Err(format!("{shown} names no school; write [[school]] for each")),
        Some(_) => return Err(format!("{shown}: school is not a list of tables; write [[school]] for each")),
    };
    if let Some(key) = file.keys().next() {
        return Err(format!("{shown}: unknown key {key}; there are [defaults] and [[school]]"));
    }
    if defaults.contains_key("id") {
        return Err(format!("{shown}: id stands in [defaults]; give each school its own"));
    }
    let mut ids = BTreeSet::new();
    let mut read = Vec::new();
    for (number, school) in (1..).zip(schools) {
        let Value::Table(own) = school else {
            return Err(format!("{shown}: school {number} is not a table; write [[school]] for each"));
        };
        let mut keys = defaults.clone();
        keys.extend(own);
        let id = match keys.remove("id") {
            Some(Value::String(id)) if !id.trim().is_empty() => id.trim().to_owned(),
            _ => return Err(format!("{shown}: school {number} has no id; give it the school's key in the store")),
        };
        if !ids.insert(id.clone()) {
            return Err(format!("{shown}: two schools have the id {id}; give each its own"));
        }
        let school = school_of(&id, keys, now, dry_run);
        read.push(school.map_err(|error| format!("{shown}, school {id}: {error}"))?);
    }
    Ok(read)
}

fn school_of(id: &str, mut keys: Table, now: Option<DateTime<Utc>>, dry_run: bool) -> Result<School, String> {
    let command = Command::new("school").no_binary_name(true).disable_help_flag(true);
    // A variable of the machine is not every school's.
    let command = sync::Flags::augment_args(command).mut_args(|argument| argument.env(Resettable::Reset));
    let mut flags = vec![format!("--school={id}")];
    for (key, flag) in [("api_key_env", "api-key"), ("client_secret_env", "client-secret")] {
        if let Some(name) = keys.remove(key) {
            let name = name.as_str().ok_or(format!("{key} is not a text; name an environment variable"))?;
            let secret = std::env::var(name).ok().filter(|secret| !secret.is_empty());
            let secret = secret.ok_or(format!("the environment variable {name} ({key}) is not set"))?;
            flags.push(format!("--{flag}={secret}"));
        }
    }
    let excludes_sweep = ["from", "to", "student"].iter().any(|key| keys.contains_key(*key));
    if !excludes_sweep {
        keys.entry("sweep").or_insert(Value::Boolean(true));
    }
    let host = keys.get("url").and_then(Value::as_str).unwrap_or_default();
    let host = host.split("://").last().and_then(|rest| rest.split('/').next()).unwrap_or_default().to_lowercase();
    for (key, value) in keys {
        let flag = key.replace('_', "-");
        let known = command.get_arguments().find(|argument| argument.get_long() == Some(&*flag));
        let known = known.filter(|_| !key.contains('-') && !NOT_IN_A_FILE.contains(&&*flag));
        let Some(known) = known else {
            return Err(match &*flag {
                "api-key" | "client-secret" => {
                    format!("{key} would put a secret into the file; name it with {key}_env or {key}_file")
                }
                _ => format!("unknown key {key}; the keys are the long flags of rollmark sync, with underscores"),
            });
        };
        match value {
            Value::Boolean(is_set) if !known.get_action().takes_values() => {
                flags.extend(is_set.then(|| format!("--{flag}")));
            }
            Value::Array(values) => {
                for value in values {
                    flags.push(format!("--{flag}={}", text_of(&key, value)?));
                }
            }
            _ if !known.get_action().takes_values() => return Err(format!("{key} is neither true nor false")),
            value => flags.push(format!("--{flag}={}", text_of(&key, value)?)),
        }
    }
    flags.extend(now.map(|now| format!("--now={}", now.to_rfc3339_opts(SecondsFormat::AutoSi, true))));
    flags.extend(dry_run.then(|| "--dry-run".to_owned()));
    let matches = command.try_get_matches_from(flags);
    let flags = matches.and_then(|matches| sync::Flags::from_arg_matches(&matches)).map_err(one_line)?;
    flags.validate()?;
    Ok(School { id: id.to_owned(), host, flags })
}

fn text_of(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Datetime(moment) => Ok(moment.to_string()),
        _ => Err(format!("{key} is not a text, number or date")),
    }
}
