//! What a portal does with the store: syncs with guards, several schools and runs at once, and SQL of its own.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use libtest_mimic::Trial;
use rollmark::model::SchoolId;
use rollmark::rules::{Scope, SyncWindow};
use rollmark::source::{SourceError, SourceErrorKind};
use rollmark::store::{ChangeSet, HistoryQuery, MarkStore, MemoryStore, PostgresStore, RunQuery, StoreErrorKind};
use rollmark::sync::{AttendanceSync, Guards, SyncErrorKind, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource};

use crate::on_server;
use crate::sample::{STUDENT, date, marks, rules, run, scope};
use crate::server::Server;

pub fn tests() -> Vec<Trial> {
    vec![
        on_server("guards_hold_as_in_memory", guards),
        on_server("several_schools_write_at_once", several_schools),
        on_server("of_two_runs_at_once_each_waits_its_turn", two_at_once),
        on_server("programs_that_migrate_at_once_take_turns", migrating_at_once),
        on_server("the_exported_sql_makes_the_same_schema", exported_sql),
        on_server("the_views_show_marks_history_and_runs", views),
        on_server("taking_a_lease_does_not_wait_for_a_first_load", lease_during_a_load),
        on_server("a_lease_from_before_the_clock_was_set_back_is_over", lease_of_the_future),
        on_server("ids_sort_by_code_point_whatever_the_database_does", code_points),
    ]
}

fn today() -> NaiveDate {
    date()
}

fn at(day: u32) -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap().and_hms_opt(18, 0, 0).unwrap().and_utc()
}

fn wide() -> Scope {
    Scope::all(SyncWindow::default().with_days(400).with_look_ahead(400).ending(today()))
}

/// A made-up school, and a source that is changed between runs. What each run did, and what the store then shows.
async fn played(store: Arc<dyn MarkStore>) -> Vec<String> {
    let source = FakeSource::new(FakeSchool::demo(today()));
    let sync = AttendanceSync::new(source.clone(), Arc::clone(&store), "school", rules());
    let request = || SyncRequest::overnight(today());
    let mut told = Vec::new();
    let mut tell = async |about: &str, request: SyncRequest| {
        let done = match sync.run(request).await {
            Ok(report) => format!("{:?} {:?} {:?}", report.run, report.marks, report.withheld),
            Err(error) => format!("{:?}: {error}", error.kind()),
        };
        let school = SchoolId::new("school");
        let marks = store.read(&school, &wide()).await.unwrap();
        let history = store.history(&school, &HistoryQuery::new(wide())).await.unwrap();
        let history: Vec<_> = history
            .into_iter()
            .map(|change| (change.key, change.cursor, change.run, change.seen_at, change.before, change.after))
            .collect();
        let runs = store.runs(&school, &RunQuery::all()).await.unwrap();
        told.push(format!("{about}: {done}\n{marks:?}\n{history:?}\n{runs:?}"));
    };
    tell("a dry run", request().with_now(at(20)).with_dry_run(true)).await;
    source.fail_next(SourceError::new(SourceErrorKind::Credentials, "refused"));
    tell("a failing fetch", request().with_now(at(20))).await;
    tell("the first run", request().with_now(at(20))).await;
    tell("the same again", request().with_now(at(20) + TimeDelta::minutes(5))).await;
    source.change(|school| school.demo_changes(today()));
    tell("changes", request().with_now(at(20) + TimeDelta::hours(1))).await;
    tell("an older reply", request().with_now(at(20) - TimeDelta::hours(3))).await;
    let students: Vec<_> = FakeSchool::demo(today()).registrations().iter().map(|row| row.student.clone()).collect();
    let one = students[0].clone();
    source
        .change(|school| school.remove_registrations(|row| row.student == one && *row.at.to_string() > *"2026-11-19"));
    tell("some records are gone", request().with_now(at(20) + TimeDelta::hours(2))).await;
    let whole = FakeSchool::demo(today());
    source.change(|school| school.remove_registrations(|row| row.student > students[students.len() / 2]));
    tell("half of the students are gone", request().with_now(at(20) + TimeDelta::hours(3))).await;
    source.change(|school| *school = FakeSchool::new());
    tell("everything is gone", request().with_now(at(20) + TimeDelta::hours(4))).await;
    source.change(|school| {
        *school = whole;
        let ids: Vec<String> =
            school.registrations().iter().filter_map(|row| Some(row.id.as_ref()?.to_string())).collect();
        for id in ids {
            school.registration_mut(&id).unwrap().absent("17").updated("2026-11-20T19:30:00");
        }
    });
    tell("a mass change", request().with_now(at(20) + TimeDelta::hours(5))).await;
    let allowed = Guards::default().with_allow_mass_change(true);
    tell("a mass change that is allowed", request().with_now(at(20) + TimeDelta::hours(6)).with_guards(allowed)).await;
    store.erase(&"school".into(), &students[0]).await.unwrap();
    store.prune(&"school".into(), NaiveDate::from_ymd_opt(2026, 11, 21).unwrap()).await.unwrap();
    tell("erased and pruned", request().with_now(at(21))).await;
    told
}

async fn guards(server: Server) {
    let expected = played(Arc::new(MemoryStore::new())).await;
    let found = played(Arc::new(server.store())).await;
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.lines().next(), expected.lines().next());
        let difference = found.bytes().zip(expected.bytes()).position(|(a, b)| a != b);
        let near = difference.map(|at| (&found[at.saturating_sub(200)..], &expected[at.saturating_sub(200)..]));
        let near =
            near.map(|(a, b)| (a.chars().take(400).collect::<String>(), b.chars().take(400).collect::<String>()));
        assert!(found == expected, "{}: {near:#?}", found.lines().next().unwrap());
    }
    // The sequence does what its names say.
    let first_lines: Vec<&str> = expected.iter().filter_map(|told| told.lines().next()).collect();
    for (about, says) in [
        ("the same again: Some(2)", "added: 0, changed: 0"),
        ("half of the students", "StudentsVanished"),
        ("a mass change: MassChange", ""),
        ("a mass change that is allowed: Some(", "changed: "),
    ] {
        assert!(first_lines.iter().any(|line| line.starts_with(about) && line.contains(says)), "{first_lines:#?}");
    }
}

async fn several_schools(server: Server) {
    let store = server.store();
    let mut working = Vec::new();
    for number in 0..6 {
        let store = store.clone();
        working.push(tokio::spawn(async move {
            let school = SchoolId::new(format!("school {number}"));
            let source = FakeSource::new(FakeSchool::demo(today())).with_shuffling(number);
            let sync = AttendanceSync::new(source.clone(), store.clone(), school.clone(), rules());
            let added = sync.run(SyncRequest::overnight(today()).with_now(at(20))).await.unwrap().marks.added;
            source.change(|school| school.demo_changes(today()));
            for hour in 1..4 {
                let now = at(20) + TimeDelta::hours(hour);
                sync.run(SyncRequest::overnight(today()).with_now(now)).await.unwrap();
            }
            store.erase(&school, &"nobody".into()).await.unwrap();
            store.prune(&school, today()).await.unwrap();
            added
        }));
    }
    let mut added = Vec::new();
    for work in working {
        added.push(work.await.unwrap());
    }
    added.dedup();
    assert_eq!(added.len(), 1, "every school has the same marks");
    let client = server.client().await;
    let counts = client
        .query_typed("SELECT school, count(*) FROM rollmark.marks GROUP BY school ORDER BY school", &[])
        .await
        .unwrap();
    assert_eq!(counts.len(), 6);
}

async fn two_at_once(server: Server) {
    let (one, two) = (server.store(), server.store());
    let sync = |store: PostgresStore| {
        AttendanceSync::new(FakeSource::new(FakeSchool::demo(today())), store, "school", rules())
            .with_wait_for_other_run(Duration::from_secs(30))
    };
    let request = || SyncRequest::overnight(today()).with_now(at(20));
    let (first, second) = (sync(one.clone()), sync(two));
    let (first, second) = tokio::join!(first.run(request()), second.run(request()));
    let mut runs = [first.unwrap(), second.unwrap()].map(|report| (report.run, report.marks.added));
    runs.sort();
    assert!(runs[0].1 > 0 && runs[1].1 == 0, "the second finds everything written: {runs:?}");
    assert_eq!([runs[0].0, runs[1].0], [Some(1), Some(2)]);

    let lease = one.acquire_lease(&"school".into(), Duration::from_secs(30)).await.unwrap().unwrap();
    let impatient = sync(server.store()).with_wait_for_other_run(Duration::ZERO);
    assert_eq!(impatient.run(request()).await.unwrap_err().kind(), SyncErrorKind::Busy);
    one.release_lease(&"school".into(), lease).await.unwrap();
    impatient.run(request()).await.unwrap();
}

async fn migrating_at_once(server: Server) {
    let working: Vec<_> = (0..8)
        .map(|_| {
            let store = server.store();
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for work in working {
        work.await.unwrap().unwrap();
    }
    let store = server.store();
    assert!(store.is_there().await.unwrap());
    store.migrate().await.unwrap();
    let client = server.client().await;
    let done = client.query_typed("SELECT number FROM rollmark.migrations", &[]).await.unwrap();
    assert_eq!(done.len(), PostgresStore::MIGRATIONS.len());
}

/// Also where the schema itself was made beforehand, by somebody with more rights.
async fn exported_sql(server: Server) {
    server.execute("CREATE SCHEMA rollmark").await;
    assert!(!server.store().is_there().await.unwrap());
    for (_, sql) in PostgresStore::MIGRATIONS {
        server.execute(sql).await;
    }
    let store = server.store();
    assert!(store.is_there().await.unwrap());
    store.migrate().await.unwrap();
    store.apply(&"school".into(), &ChangeSet::new(0, run()).with_writes(marks(1))).await.unwrap();
}

async fn views(server: Server) {
    let store = server.store();
    let source = FakeSource::new({
        let mut school = FakeSchool::new();
        school.code("17", "M", "Medical", true);
        school.registration("1", STUDENT, "2026-11-20T08:40:00").late(Some(7)).updated("2026-11-20T08:45:00.123");
        school
    });
    let sync = AttendanceSync::new(source.clone(), store, "St John's", rules());
    sync.run(SyncRequest::overnight(today()).with_now(at(20))).await.unwrap();
    source.change(|school| {
        school.registration_mut("1").unwrap().absent("17").updated("2026-11-20T09:14:03");
    });
    sync.run(SyncRequest::overnight(today()).with_now(at(20) + TimeDelta::hours(1))).await.unwrap();

    let client = server.client().await;
    let lines = async |sql: &str| -> Vec<String> {
        let sql = format!("SELECT to_jsonb(row)::text FROM ({sql}) row");
        client.query_typed(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    client.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
    let marks = lines(
        "SELECT school, student, date, session, status, code, code_name, raw_code, minutes_late, decided_by, record_id,
                last_updated, rule, run, seen_at, decision->'winner'->>'id' AS winner, cursor
         FROM rollmark.marks",
    )
    .await;
    assert_eq!(
        marks,
        [format!(
            "{{\"run\": 2, \"code\": \"M\", \"date\": \"2026-11-20\", \"rule\": \"only_candidate\", \"cursor\": 2, \
         \"school\": \"St John's\", \"status\": \"absent\", \"winner\": \"1\", \"seen_at\": \"2026-11-20T19:00:00+00:00\", \
         \"session\": \"AM\", \"student\": \"{STUDENT}\", \"raw_code\": \"17\", \"code_name\": \"Medical\", \
         \"record_id\": \"1\", \"decided_by\": \"registration\", \"last_updated\": \"2026-11-20T09:14:03+00:00\", \
         \"minutes_late\": null}}"
        )]
    );
    let history = lines(
        "SELECT cursor, run, removed, status, minutes_late, last_updated, status_before, minutes_late_before
         FROM rollmark.history ORDER BY cursor",
    )
    .await;
    assert_eq!(
        history,
        [
            "{\"run\": 1, \"cursor\": 1, \"status\": \"late\", \"removed\": false, \"last_updated\": \
         \"2026-11-20T08:45:00.123+00:00\", \"minutes_late\": 7, \"status_before\": null, \"minutes_late_before\": null}",
            "{\"run\": 2, \"cursor\": 2, \"status\": \"absent\", \"removed\": false, \"last_updated\": \
         \"2026-11-20T09:14:03+00:00\", \"minutes_late\": null, \"status_before\": \"late\", \"minutes_late_before\": 7}",
        ]
    );
    let runs = lines("SELECT run, purpose, fetched_at, to_date, students, added, changed FROM rollmark.runs").await;
    assert_eq!(
        runs[1],
        "{\"run\": 2, \"added\": 0, \"changed\": 1, \"purpose\": \"window\", \"to_date\": \"2026-11-20\", \
         \"students\": null, \"fetched_at\": \"2026-11-20T19:00:00+00:00\"}"
    );
}

async fn lease_during_a_load(server: Server) {
    let store = server.store();
    store.migrate().await.unwrap();
    let writer = server.client().await;
    writer
        .batch_execute(
            "INSERT INTO rollmark.schools (school) VALUES ('school'); BEGIN; SELECT FROM rollmark.schools FOR UPDATE",
        )
        .await
        .unwrap();
    let school = SchoolId::new("school");
    let held = store.acquire_lease(&school, Duration::from_millis(200)).await.unwrap().unwrap();
    store.renew_lease(&school, held, Duration::from_millis(200)).await.unwrap();
    let changes = ChangeSet::new(0, run()).with_writes(marks(1)).with_lease(held);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.apply(&"school".into(), &changes).await }
    });
    // The lease runs out while the call waits for the other transaction: nobody else has taken it, so it still holds.
    let is_waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let client = server.client().await;
    while client.query_typed_one(is_waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    server.execute("UPDATE rollmark.leases SET ends_at = now() WHERE ends_at > now()").await;
    let began = "SELECT xact_start < (SELECT ends_at FROM rollmark.leases) FROM pg_stat_activity
                 WHERE wait_event_type = 'Lock' AND datname = current_database()";
    assert!(client.query_typed_one(began, &[]).await.unwrap().get::<_, bool>(0));
    writer.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();

    // Whoever lost the lease to another while it waited does not write.
    let stale = store.acquire_lease(&school, Duration::from_secs(30)).await.unwrap().unwrap();
    writer.batch_execute("BEGIN; SELECT FROM rollmark.schools FOR UPDATE").await.unwrap();
    let changes = ChangeSet::new(1, run()).with_writes(marks(2)).with_lease(stale);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.apply(&"school".into(), &changes).await }
    });
    while client.query_typed_one(is_waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    server.execute("UPDATE rollmark.leases SET token = token + 1").await;
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), StoreErrorKind::LeaseLost);
    assert_eq!(store.runs(&school, &RunQuery::all()).await.unwrap().len(), 1);
}

async fn lease_of_the_future(server: Server) {
    let (store, school) = (server.store(), SchoolId::new("school"));
    store.acquire_lease(&school, Duration::from_secs(30)).await.unwrap().unwrap();
    assert_eq!(store.acquire_lease(&school, Duration::from_secs(30)).await.unwrap(), None);
    server.execute("UPDATE rollmark.leases SET ends_at = ends_at + interval '1 hour'").await;
    assert!(store.acquire_lease(&school, Duration::from_secs(30)).await.unwrap().is_some());
}

/// In a database that sorts like people do.
async fn code_points(server: Server) {
    let name = format!("{}_icu", server.config.get_dbname().unwrap());
    server
        .administer(&format!(
            "CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
        ))
        .await;
    let mut config = server.config.clone();
    config.dbname(&name);
    let store = PostgresStore::new(crate::server::pool(&config, 2));
    store.apply(&"school".into(), &ChangeSet::new(0, run()).with_writes(marks(1))).await.unwrap();
    let snapshot = store.read(&"school".into(), &scope().with_students(["é"])).await.unwrap();
    assert_eq!(snapshot.marks().len(), 1);
    let client = crate::server::connect(&config).await;
    let sorts =
        |text: &'static str| format!("SELECT {text} FROM (VALUES ('b'), ('B'), ('é'), ('z')) AS t (id) ORDER BY id");
    let as_people = client.query_typed(&sorts("id"), &[]).await.unwrap();
    assert_eq!(as_people[3].get::<_, &str>(0), "z", "the database sorts é before z");
    let sql = "SELECT student FROM rollmark.marks ORDER BY student";
    let sorted: Vec<String> = client.query_typed(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(sorted, [STUDENT, "é"]);
    drop((client, store));
    server.administer(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
}
