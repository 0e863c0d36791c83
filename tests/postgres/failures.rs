//! What fails: each failure is one clear line without a value, and nothing is lost.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use rollmark::model::{Retry, SchoolId};
use rollmark::store::{ChangeSet, HistoryQuery, MarkStore, PostgresStore, RunQuery, StoreError, StoreErrorKind};
use tokio_postgres::{Config, NoTls};

use crate::on_server;
use crate::proxy::{Fault, Proxy};
use crate::sample::{STUDENT, marks, run, scope};
use crate::server::{Server, connect, pool};

/// What an error of the server's own would show.
const VALUE: &str = "hunter2";

pub fn tests() -> Vec<Trial> {
    vec![
        on_server("a_broken_connection_at_any_step_loses_nothing", a_broken_connection_at_any_step),
        on_server("a_server_that_was_restarted_is_found_again", a_restarted_server),
        on_server("a_server_that_is_not_there_is_an_error", a_server_that_is_not_there),
        on_server("what_the_server_refuses_is_said_in_a_line", what_the_server_refuses),
        on_server("no_free_connection_is_an_error", no_free_connection),
        on_server("a_read_only_server_can_be_read", a_read_only_server),
        on_server("a_newer_schema_is_refused_by_every_call", a_newer_schema),
        on_server("the_documented_rights_are_enough_and_fewer_are_refused", rights),
        on_server("a_dropped_call_leaves_its_connection_clean", a_dropped_call),
        on_server("a_value_that_postgresql_has_no_place_for_is_an_error", a_value_without_a_place),
    ]
}

fn school() -> SchoolId {
    SchoolId::new("school")
}

async fn put(store: &PostgresStore, minute: u32) -> Result<u64, StoreError> {
    let revision = store.read(&school(), &scope()).await?.revision();
    store.apply(&school(), &ChangeSet::new(revision, run()).with_writes(marks(minute))).await
}

/// All that a school's store shows.
async fn shown(store: &PostgresStore) -> String {
    let (school, all) = (school(), RunQuery::all());
    format!(
        "{:?} {:?} {:?}",
        store.read(&school, &scope()).await.unwrap(),
        store.changes(&school, None, 1_000).await.unwrap(),
        store.runs(&school, &all).await.unwrap(),
    )
}

/// One line, no value, no address; returns what it says.
fn told(error: &StoreError) -> String {
    let chain: Vec<&dyn Error> = std::iter::successors(Some(error as &dyn Error), |error| (*error).source()).collect();
    let text: String = chain.iter().map(|error| format!("{error} {error:?} {error:#?} ")).collect();
    for secret in [VALUE, STUDENT, "127.0.0.1", "localhost", "postgres://", "rollmark_test"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let message = error.to_string();
    assert!(!message.contains('\n') && message.starts_with("the PostgreSQL store "), "{message}");
    message
}

async fn a_broken_connection_at_any_step(server: Server) {
    type Call = for<'a> fn(&'a PostgresStore) -> futures::future::BoxFuture<'a, Result<(), StoreError>>;
    let calls: [(&str, Call); 4] = [
        ("apply", |store| Box::pin(async { put(store, 2).await.map(drop) })),
        ("erase", |store| Box::pin(async { store.erase(&"school".into(), &STUDENT.into()).await.map(drop) })),
        ("prune", |store| {
            Box::pin(async { store.prune(&"school".into(), "2026-12-01".parse().unwrap()).await.map(drop) })
        }),
        ("lease", |store| Box::pin(async { store.acquire_lease(&"school".into(), Duration::ZERO).await.map(drop) })),
    ];
    for fault in [Fault::Cut, Fault::Terminate, Fault::CutAfter] {
        let proxy = Proxy::start(&server, fault).await;
        for (name, call) in calls {
            let mut step = 1;
            loop {
                server.execute("DROP SCHEMA IF EXISTS rollmark CASCADE").await;
                let direct = server.store();
                put(&direct, 1).await.unwrap();
                put(&direct, 3).await.unwrap();
                let before = shown(&direct).await;
                let store = PostgresStore::new(pool(&proxy.config, 2));
                proxy.fail_at(step);
                let result = call(&store).await;
                if proxy.count() < step {
                    result.unwrap();
                    break;
                }
                let about = format!("{name}, step {step}, {fault:?}");
                let error = result.expect_err(&about);
                assert_eq!((error.kind(), error.retry()), (StoreErrorKind::Unreachable, Retry::Exhausted), "{about}");
                assert!(told(&error).contains("lost its connection"), "{about}: {error}");
                let is_commit = error.to_string().contains("during the commit");
                // What the server has committed is there, though nobody could say so.
                let is_written = is_commit && matches!(fault, Fault::CutAfter);
                assert_eq!(shown(&direct).await != before, is_written, "{about}");
                call(&store).await.unwrap_or_else(|error| panic!("{about}, and again: {error}"));
                step += 1;
            }
            assert!(step > if name == "lease" { 1 } else { 5 }, "{name} has steps");
        }
    }
}

async fn a_restarted_server(server: Server) {
    let store = server.store();
    put(&store, 1).await.unwrap();
    server.terminate_others().await;
    put(&store, 2).await.unwrap();
    server.terminate_others().await;
    assert_eq!(store.read(&school(), &scope()).await.unwrap().marks().len(), 2);
}

async fn a_server_that_is_not_there(_: Server) {
    let mut config = Config::new();
    config.host("127.0.0.1").port(1).user("portal").password(VALUE).dbname("marks");
    let error = put(&PostgresStore::new(pool(&config, 2)), 1).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (StoreErrorKind::Unreachable, Retry::Exhausted));
    assert_eq!(
        told(&error),
        "the PostgreSQL store can't be reached; check that the server runs, and its host and port"
    );
    assert_eq!(error.source().unwrap().to_string(), "connection refused (os error 111)");
}

async fn what_the_server_refuses(server: Server) {
    let store = server.store();
    put(&store, 1).await.unwrap();
    let before = shown(&store).await;
    for (code, kind, says) in [
        ("53100", StoreErrorKind::Full, "can't grow, the server's disk is full; nothing was written"),
        ("53200", StoreErrorKind::Busy, "has no memory left"),
        ("40P01", StoreErrorKind::Busy, "try again later"),
        ("57014", StoreErrorKind::Busy, "try again later"),
        ("57P03", StoreErrorKind::Unreachable, "is starting or shutting down"),
        ("XX001", StoreErrorKind::Damaged, "restore the schema rollmark"),
        ("22021", StoreErrorKind::Failed, "can't keep a text of the source"),
        ("P0001", StoreErrorKind::Failed, "has failed; nothing was written"),
    ] {
        server
            .execute(&format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN RAISE EXCEPTION '{VALUE} {STUDENT}' USING ERRCODE = '{code}', DETAIL = '{VALUE}'; END $$;
                 CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON rollmark.run_records
                 FOR EACH ROW EXECUTE FUNCTION refuse()"
            ))
            .await;
        let error = put(&store, 2).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{code}: {error}");
        assert!(told(&error).contains(says), "{code}: {error}");
        assert_eq!(error.source().unwrap().to_string(), format!("PostgreSQL error {code}"));
        server.execute("DROP TRIGGER refuse ON rollmark.run_records").await;
        assert_eq!(shown(&store).await, before, "{code}");
    }
    put(&store, 2).await.unwrap();

    server.execute("ALTER TABLE rollmark.changes RENAME COLUMN raw_code TO other").await;
    let error = put(&store, 3).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Damaged);
    assert!(told(&error).contains("lacks tables or columns of its own"), "{error}");

    let mut config = server.config.clone();
    config.dbname("rollmark_test_missing");
    let error = put(&PostgresStore::new(pool(&config, 2)), 1).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::CannotOpen);
    assert!(told(&error).contains("the database is not there; create it first"));

    // Another program's schema of that name.
    server.execute("DROP SCHEMA rollmark CASCADE; CREATE SCHEMA rollmark; CREATE TABLE rollmark.schools ()").await;
    let error = put(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::CannotOpen);
    assert!(told(&error).contains("another program's tables"), "{error}");
}

async fn no_free_connection(server: Server) {
    let manager = deadpool_postgres::Manager::new(server.config.clone(), NoTls);
    let pool = deadpool_postgres::Pool::builder(manager)
        .max_size(1)
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_millis(50)))
        .build()
        .unwrap();
    let store = PostgresStore::new(pool.clone());
    put(&store, 1).await.unwrap();
    let held = pool.get().await.unwrap();
    let error = put(&store, 2).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (StoreErrorKind::Busy, Retry::Exhausted));
    assert!(told(&error).contains("no connection of the pool became free in time"));
    drop(held);
    put(&store, 2).await.unwrap();

    // A school that another program keeps locked.
    let holder = server.client().await;
    holder.batch_execute("BEGIN; SELECT FROM rollmark.schools FOR UPDATE").await.unwrap();
    let mut config = server.config.clone();
    config.options("-c lock_timeout=50ms");
    let error = put(&PostgresStore::new(crate::server::pool(&config, 2)), 3).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy);
    assert!(told(&error).contains("another program's work or a time limit ended this"));
    pool.close();
    let error = put(&store, 3).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::CannotOpen);
    assert!(told(&error).contains("the pool of connections is closed"));
}

async fn a_read_only_server(server: Server) {
    let mut config = server.config.clone();
    config.options("-c default_transaction_read_only=on");
    let replica = PostgresStore::new(pool(&config, 2));
    assert_eq!(replica.read(&school(), &scope()).await.unwrap().revision(), 0, "also before the schema is there");
    let error = put(&replica, 1).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly);
    let store = server.store();
    put(&store, 1).await.unwrap();
    assert_eq!(shown(&replica).await, shown(&store).await);
    let before = shown(&store).await;
    let lease = Duration::from_secs(1);
    for error in [
        put(&replica, 2).await.unwrap_err(),
        replica.erase(&school(), &STUDENT.into()).await.unwrap_err(),
        replica.prune(&school(), "2026-12-01".parse().unwrap()).await.unwrap_err(),
        replica.acquire_lease(&school(), lease).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.retry()), (StoreErrorKind::ReadOnly, Retry::Never));
        assert!(told(&error).contains("a read-only replica or set to read only; name the primary"));
    }
    assert_eq!(shown(&store).await, before);
}

async fn a_newer_schema(server: Server) {
    let store = server.store();
    put(&store, 1).await.unwrap();
    let token = store.acquire_lease(&school(), Duration::from_secs(9)).await.unwrap().unwrap();
    server.execute("INSERT INTO rollmark.migrations (number) VALUES (999)").await;
    let (school, date) = (school(), scope().window().from());
    let outcomes = [
        store.migrate().await.map(drop),
        store.is_there().await.map(drop),
        store.read(&school, &scope()).await.map(drop),
        store.apply(&school, &ChangeSet::new(1, run())).await.map(drop),
        store.history(&school, &HistoryQuery::new(scope())).await.map(drop),
        store.changes(&school, None, 9).await.map(drop),
        store.runs(&school, &RunQuery::all()).await.map(drop),
        store.last_covering_run(&school, &STUDENT.into(), date).await.map(drop),
        store.sessions_held(&school, scope().window()).await.map(drop),
        store.erase(&school, &STUDENT.into()).await.map(drop),
        store.prune(&school, date).await.map(drop),
        store.acquire_lease(&school, Duration::ZERO).await.map(drop),
        store.renew_lease(&school, token, Duration::ZERO).await,
        store.release_lease(&school, token).await,
    ];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let error = outcome.expect_err(&format!("call {number}"));
        assert_eq!(error.kind(), StoreErrorKind::NewerVersion, "call {number}");
        assert!(told(&error).contains("made by a newer version"));
    }
    server.execute("DELETE FROM rollmark.migrations WHERE number = 999").await;
    put(&store, 2).await.unwrap();
}

/// The rights of the page of `PostgresStore`.
async fn rights(server: Server) {
    let role = server.config.get_dbname().unwrap().to_owned();
    server.administer(&format!("CREATE ROLE {role} LOGIN PASSWORD '{VALUE}' CONNECTION LIMIT 3")).await;
    let mut config = server.config.clone();
    config.user(&role).password(VALUE);
    let store = PostgresStore::new(pool(&config, 3));
    let refused = |error: &StoreError| {
        assert_eq!((error.kind(), error.retry()), (StoreErrorKind::CannotOpen, Retry::Never));
        assert!(told(error).contains("lacks a right in the schema rollmark"), "{error}");
    };
    refused(&store.migrate().await.unwrap_err());
    server.store().migrate().await.unwrap();
    refused(&store.read(&school(), &scope()).await.unwrap_err());
    let reader = format!(
        "GRANT USAGE ON SCHEMA rollmark TO {role};
         GRANT SELECT ON rollmark.marks, rollmark.history, rollmark.runs, rollmark.withheld TO {role}"
    );
    server.execute(&reader).await;
    put(&server.store(), 1).await.unwrap();
    let portal = connect(&config).await;
    assert_eq!(portal.query_typed("SELECT * FROM rollmark.marks", &[]).await.unwrap().len(), 2);
    drop(portal);
    refused(&put(&store, 2).await.unwrap_err());
    server.execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rollmark TO {role}")).await;
    put(&store, 2).await.unwrap();
    let token = store.acquire_lease(&school(), Duration::from_secs(9)).await.unwrap().unwrap();
    store.renew_lease(&school(), token, Duration::from_secs(9)).await.unwrap();
    store.release_lease(&school(), token).await.unwrap();
    assert_eq!(store.prune(&school(), "2099-01-01".parse().unwrap()).await.unwrap().changes, 2);
    assert_eq!(store.erase(&school(), &STUDENT.into()).await.unwrap(), 1);
    shown(&store).await;

    // All connections that the user may have are taken.
    let mut held = Vec::new();
    while let Ok((client, connection)) = config.connect(NoTls).await {
        tokio::spawn(connection);
        held.push(client);
    }
    let error = put(&PostgresStore::new(pool(&config, 1)), 3).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (StoreErrorKind::Busy, Retry::Exhausted));
    assert!(told(&error).contains("the server has no connection left"));
    server.execute(&format!("DROP OWNED BY {role}")).await;
    drop(held);
    server.terminate_others().await;
    server.administer(&format!("DROP ROLE {role}")).await;
}

async fn a_dropped_call(server: Server) {
    let pool = pool(&server.config, 1);
    let store = Arc::new(PostgresStore::new(pool.clone()));
    put(&store, 1).await.unwrap();
    for delay in 0..40 {
        let calling = Arc::clone(&store);
        let call = tokio::spawn(async move { put(&calling, 2 + delay).await });
        tokio::time::sleep(Duration::from_micros(150) * delay).await;
        call.abort();
        let _ = call.await;
        let client = pool.get().await.unwrap();
        let process = client.query_typed_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        assert!(server.is_idle(process).await, "no transaction is left open, after {delay}");
        drop(client);
        let feed = store.changes(&school(), None, 1_000).await.unwrap().len();
        let runs = store.runs(&school(), &RunQuery::all()).await.unwrap().len();
        assert_eq!(feed, 2 * runs, "every run that is there has both of its changes");
    }
}

async fn a_value_without_a_place(server: Server) {
    use rollmark::store::Write;
    let store = server.store();
    let Some(Write::Put(mark)) = marks(1).pop() else { panic!("a mark") };
    let mut with_nul = (*mark).clone();
    with_nul.code_name = Some(format!("{VALUE}\0").into());
    let writes = vec![Write::Put(Arc::new(with_nul))];
    let error = store.apply(&school(), &ChangeSet::new(0, run()).with_writes(writes)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Failed);
    assert!(told(&error).contains("a character that this database does not take"), "{error}");
    assert_eq!(store.read(&school(), &scope()).await.unwrap().revision(), 0);
}
