//! A school's sync as data: what it says, what it refuses, and that it is the same as the file of a fleet.

use std::collections::BTreeSet;

use rollmark::fleet::SyncJob;
use rollmark::model::SchoolId;
use rollmark::rules::{Scope, SyncWindow};
use rollmark::source::SourceErrorKind;
use rollmark::store::{MarkStore, MemoryStore, RunPurpose, RunQuery, SqliteStore};
use serde_json::{Value, json};

use super::{KEY, NOW, TODAY, demo, fleet_aside, school, write};
use crate::common::program::rollmark;

/// Flags of `rollmark sync` that are not a school's: where its outputs go, and what one run alone is asked for.
const OF_A_RUN: [&str; 20] = [
    "api_key",
    "client_secret",
    "school",
    "store",
    "store_password_file",
    "marks",
    "report",
    "save_plan",
    "save_replies",
    "mask",
    "replay",
    "now",
    "today",
    "from",
    "to",
    "student",
    "dry_run",
    "help",
    "version",
    "color",
];

fn schema() -> Value {
    serde_json::from_str(SyncJob::json_schema()).unwrap()
}

/// A job that says everything.
fn full() -> Value {
    json!({
        "id": "greenfield", "url": "https://greenfield.isams.cloud", "api_key_env": "GREENFIELD_KEY", "format": "json",
        "timezone": "Europe/Dublin", "pm_rule": "periods", "pm_start": "13:30:00", "tie": "registration",
        "midnight_end": "included", "days": 10, "look_ahead": 2, "cache_expiry": "6h", "no_code_table": true,
        "field": ["out_of_school_updated=SavedAt"], "ignore_field": ["Colour"], "closed": ["2026-11-19"], "leavers": true,
        "allow_removals": true, "allow_mass_change": true, "sweep": true, "sweep_from": "2026-09-07", "sweep_nights": 7
    })
}

fn with(change: Value) -> Result<SyncJob, serde_json::Error> {
    let mut job =
        json!({ "id": "greenfield", "url": "https://greenfield.isams.cloud", "api_key_env": "GREENFIELD_KEY" });
    for (key, value) in change.as_object().unwrap() {
        job[key] = value.clone();
    }
    job.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    serde_json::from_value(job)
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_job_is_read_as_it_is_written() {
    let job: SyncJob = serde_json::from_value(full()).unwrap();
    assert_eq!(serde_json::to_value(&job).unwrap(), full());
    let short = with(json!({})).unwrap();
    assert_eq!(short, SyncJob::new("greenfield", "https://greenfield.isams.cloud").with_api_key_env("GREENFIELD_KEY"));
    assert!(short.sweep, "older dates are swept");
}

#[test]
fn the_schema_names_every_key_with_its_default() {
    let schema = schema();
    let properties = &schema["properties"];
    let mut known = keys(&full());
    known.extend(["api_key_file", "client_id", "client_secret_env", "client_secret_file"].map(str::to_owned));
    assert_eq!(keys(properties), known);
    assert_eq!(schema["additionalProperties"], false);
    let defaults = serde_json::to_value(SyncJob::new("greenfield", "https://greenfield.isams.cloud")).unwrap();
    for (key, property) in properties.as_object().unwrap() {
        let default = property.get("default").cloned().unwrap_or(Value::Null);
        let is_named = ["id", "url"].contains(&key.as_str());
        assert!(is_named || defaults.get(key).cloned().unwrap_or(Value::Null) == default, "{key}: {default}");
        for value in property.get("enum").and_then(Value::as_array).into_iter().flatten() {
            let credentials = json!({ "api_key_env": null, "client_id": "client", "client_secret_env": "SECRET" });
            let mut change = if value == "rest" { credentials } else { json!({}) };
            change[key] = value.clone();
            assert_eq!(serde_json::to_value(with(change).unwrap()).unwrap()[key], *value);
        }
    }
}

#[test]
fn the_keys_are_the_flags_of_a_sync() {
    let help = rollmark("sync").arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.trim_start().split_once("--"));
    let flags = flags.filter(|(before, _)| before.is_empty() || before.starts_with('-'));
    let name = |rest: &str| {
        rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').next().unwrap().replace('-', "_")
    };
    let mut flags: BTreeSet<String> = flags.map(|(_, rest)| name(rest)).collect();
    flags.retain(|flag| !OF_A_RUN.contains(&flag.as_str()));
    // Variables are named by keys of their own, and the id is the key of the table.
    flags.extend(["id", "api_key_env", "client_secret_env"].map(str::to_owned));
    assert_eq!(keys(&schema()["properties"]), flags);
}

#[test]
fn what_a_job_can_t_mean_is_refused_without_a_value() {
    for (change, says) in [
        (json!({ "colour": "red" }), "unknown field"),
        (json!({ "api_key": KEY }), "unknown field"),
        (json!({ "url": null }), "missing field"),
        (json!({ "id": null }), "missing field"),
        (json!({ "api_key_env": null }), "credentials are incomplete"),
        (json!({ "api_key_file": "key" }), "two kinds"),
        (json!({ "client_id": "client" }), "two kinds"),
        (json!({ "format": "rest" }), "needs an OAuth client"),
        (json!({ "pm_start": "1330" }), "pm_start"),
        (json!({ "pm_start": "25:00" }), "pm_start"),
        (json!({ "tie": "first" }), "tie"),
        (json!({ "midnight_end": "yes" }), "midnight_end"),
        (json!({ "cache_expiry": "soon" }), "cache_expiry"),
        (json!({ "sweep": false, "sweep_nights": 7 }), "switched off"),
        (json!({ "sweep_nights": 0 }), "nonzero"),
        (json!({ "field": ["SavedAt"] }), "no names"),
        (json!({ "field": ["colours=SavedAt"] }), "out_of_school_updated"),
        (json!({ "days": -1 }), "invalid value"),
        (json!({ "closed": ["yesterday"] }), "invalid"),
    ] {
        let error = with(change.clone()).unwrap_err().to_string();
        assert!(error.contains(says), "{change}: {error}");
        assert!(!error.contains(KEY));
    }
}

#[test]
fn a_secret_that_is_not_there_is_named_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let job = || SyncJob::new("greenfield", "https://greenfield.isams.cloud");
    for (job, says) in [
        (job().with_api_key_env("ROLLMARK_NO_SUCH_VARIABLE"), "ROLLMARK_NO_SUCH_VARIABLE (api_key_env) is not set"),
        (job().with_api_key_file(folder.path().join("missing")), "(api_key_file) can't be read"),
        (job().with_api_key_file(&empty), "is empty"),
        (job(), "credentials are incomplete"),
        (job().with_api_key_file(&empty).with_timezone("Mars/Olympus"), "empty"),
    ] {
        let error = job.sync(MemoryStore::new()).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Configuration);
        assert!(error.to_string().contains(says), "{error}");
    }
    let nowhere = job().with_timezone("Mars/Olympus").request(NOW.parse().unwrap()).unwrap_err();
    assert!(nowhere.to_string().contains("not an IANA time zone"), "{nowhere}");
    let shown = format!("{:?}", SyncJob::new("greenfield", "https://user:Passw0rd@school.isams.cloud"));
    assert!(shown.contains("greenfield") && !shown.contains("Passw0rd"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_does_what_the_fleet_does() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = demo().await;
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, format!("{}\n", tenant.api_key())).unwrap();
    let settings = "api_key_file = \"key\"\nstore = \"sqlite:marks.db\"\npm_start = \"13:00\"\ncache_expiry = \"2h\"\ndays = 20\nsweep_nights = 3";
    write(folder.path(), &school("greenfield", &tenant.url(), settings));
    let output = fleet_aside(folder.path(), &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let job = with(json!({
        "url": tenant.url(), "api_key_env": null, "api_key_file": key_file, "pm_start": "13:00", "cache_expiry": "2h", "days": 20,
        "sweep_nights": 3
    }));
    let (job, store) = (job.unwrap(), std::sync::Arc::new(MemoryStore::new()));
    let sync = job.sync(std::sync::Arc::clone(&store)).unwrap();
    let report = sync.run(job.request(NOW.parse().unwrap()).unwrap()).await.unwrap();
    assert!(report.marks.added > 0 && report.outside_window.is_some());

    let of_fleet = SqliteStore::open(folder.path().join("marks.db")).unwrap();
    let (id, all) =
        (SchoolId::new("greenfield"), Scope::all(SyncWindow::default().with_days(90).ending(TODAY.parse().unwrap())));
    let (one, other) = (store.read(&id, &all).await.unwrap(), of_fleet.read(&id, &all).await.unwrap());
    assert_eq!(one.marks(), other.marks());
    let purposes = async |store: &dyn MarkStore| -> Vec<RunPurpose> {
        store.runs(&id, &RunQuery::all()).await.unwrap().iter().map(|run| run.purpose).collect()
    };
    assert_eq!(purposes(&*store).await, [RunPurpose::Window, RunPurpose::Sweep]);
    assert_eq!(purposes(&of_fleet).await, [RunPurpose::Window, RunPurpose::Sweep]);
}
