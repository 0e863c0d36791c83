//! No error says more than it may: neither the key, nor a query, nor what a reply or a file held, along its whole chain.

mod common;

use std::error::Error;
use std::fs;

use common::tenant::{answering, ok, with_status};
use rollmark::isams::{Batch, Format, Rest};
use rollmark::rules::{Rules, Window};
use rollmark::source::{AttendanceSource, FetchRequest, ReplaySource, SavingSource, SourceError, read_all};
use rollmark::store::{MemoryStore, SqliteStore};
use rollmark::sync::{AttendanceSync, SyncErrorKind, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource};

const KEY: &str = "1b2c3d4e-secret-key";
/// What replies and files hold here.
const BODY: &str = "Zebedee";

fn window() -> Window {
    Window::day("2026-11-20".parse().unwrap())
}

/// An error and all that lies behind it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn check(about: &str, error: &(dyn Error + 'static)) {
    let text: String = chain(error).map(|error| format!("{error}\n{error:#}\n{error:?}\n{error:#?}\n")).collect();
    for secret in [KEY, BODY, "?", "apiKey", "client_secret"] {
        assert!(!text.contains(secret), "{about}: {secret} in {text}");
    }
    let message = error.to_string();
    assert!(!message.contains('\n'), "{about}: {message}");
}

/// A reply whose body claims to be compressed.
fn compressed(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test(start_paused = true)]
async fn errors_of_isams_hold_no_secret() {
    let page = format!("<html><body>{BODY}</body></html>");
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], BODY.as_bytes()].concat();
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://{BODY}/?apiKey=x\r\nContent-Length: 0\r\n\r\n");
    let replies = [
        ("a bad key", with_status("401 Unauthorized", BODY)),
        ("no right", with_status("403 Forbidden", &page)),
        ("a failure", with_status("500 Oops", BODY)),
        ("a failure that passes", with_status("503 Unavailable", BODY)),
        ("broken JSON", ok(format!(r#"{{"iSAMS": {{"{BODY}": "#))),
        ("other JSON", ok(format!(r#"[{{"{BODY}": "{BODY}"}}]"#))),
        ("broken XML", ok(format!("<iSAMS><RegistrationManager><{BODY}></iSAMS>"))),
        ("half of XML", ok(format!("<iSAMS><RegistrationManager><{BODY}>"))),
        ("text", ok(BODY)),
        ("a page", ok(&page)),
        ("broken compression", compressed(BODY.as_bytes())),
        ("half of the compression", compressed(&gzip)),
        ("a redirect", redirect.into_bytes()),
        ("no reply", Vec::new()),
        ("no HTTP", BODY.as_bytes().to_vec()),
    ];
    for (about, reply) in replies {
        let url = answering(reply);
        let sources: [Box<dyn AttendanceSource>; 4] = [
            Box::new(Batch::new(&url, KEY).unwrap()),
            Box::new(Batch::new(&url, KEY).unwrap().with_format(Format::Json)),
            Box::new(Batch::for_client(&url, "a-client", KEY).unwrap()),
            Box::new(Rest::new(&url, "a-client", KEY).unwrap()),
        ];
        for source in sources {
            let error = read_all(&source, &FetchRequest::new(window()), Vec::new).await.unwrap_err();
            check(about, &error);
            check(about, &rollmark::sync::SyncError::from(error));
        }
    }
    for url in
        [format!("http://127.0.0.1:1/{BODY}?apiKey={KEY}"), format!("nonsense {KEY}"), "http://127.0.0.1:1".into()]
    {
        let error = match Batch::new(&url, KEY) {
            Ok(source) => read_all(&source, &FetchRequest::new(window()), Vec::new).await.unwrap_err(),
            Err(error) => error,
        };
        check(&url, &error);
    }
}

#[tokio::test]
async fn errors_of_kept_replies_hold_nothing_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let saving =
        SavingSource::new(FakeSource::new(FakeSchool::demo(window().to())), folder.path(), chrono::Utc::now()).unwrap();
    let request = FetchRequest::new(window());
    read_all(&saving, &request, Vec::new).await.unwrap();
    let (manifest, records) = (folder.path().join("replies-1.json"), folder.path().join("replies-1.records.jsonl"));

    let kept = fs::read(&records).unwrap();
    fs::write(&records, BODY).unwrap();
    let replay = ReplaySource::open(folder.path()).unwrap();
    check("other records", &replay.fetch(&request).await.unwrap_err());
    fs::write(&records, kept).unwrap();
    for text in [format!("{{\"format\": \"{BODY}\"}}"), BODY.to_owned(), "{\"format\": 1}".to_owned()] {
        fs::write(&manifest, text).unwrap();
        check("another manifest", &ReplaySource::open(folder.path()).unwrap_err());
    }
    let missing = ReplaySource::open(folder.path().join("missing")).unwrap_err();
    check("no folder", &missing);
    assert!(missing.source().unwrap().to_string().contains("os error 2"));
}

#[tokio::test]
async fn errors_of_a_store_hold_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    fs::write(&path, format!("{BODY} is no database. ").repeat(400)).unwrap();
    check("no database", &SqliteStore::open(&path).unwrap_err());
    check("no folder", &SqliteStore::open(folder.path().join("missing/marks.db")).unwrap_err());

    let path = folder.path().join("damaged.db");
    let rules = || Rules::new("Europe/London".parse().unwrap());
    let source = || FakeSource::new(FakeSchool::demo(window().to()));
    let sync = AttendanceSync::new(source(), SqliteStore::open(&path).unwrap(), "school", rules());
    sync.run(SyncRequest::overnight(window().to())).await.unwrap();
    drop(sync);
    let read_only = SqliteStore::open_read_only(&path).unwrap();
    let sync = AttendanceSync::new(source(), read_only, "school", rules());
    let error = sync.run(SyncRequest::overnight(window().to())).await.unwrap_err();
    assert_eq!((error.kind(), error.store_error().is_some()), (SyncErrorKind::Store, true));
    check("a file that is only read", &error);
    drop(sync);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x5A);
    fs::write(&path, &bytes).unwrap();
    check("a damaged file", &SqliteStore::open(&path).unwrap_err());
}

#[tokio::test]
async fn what_a_source_or_a_caller_attaches_is_reachable_and_said_once() {
    let behind = std::io::Error::other("the disk is full");
    let fake = FakeSource::new(FakeSchool::demo(window().to()));
    fake.fail_next(SourceError::new(rollmark::source::SourceErrorKind::Server, "the export failed").with_cause(behind));
    let rules = Rules::new("Europe/London".parse().unwrap());
    let sync = AttendanceSync::new(fake, MemoryStore::new(), "school", rules);
    let error = sync.run(SyncRequest::overnight(window().to())).await.unwrap_err();
    let said: Vec<String> = chain(&error).map(ToString::to_string).collect();
    assert_eq!(said, ["the export failed", "the disk is full"]);

    let prepared = sync.run_with(SyncRequest::overnight(window().to()), |_| Err("no space for the page".into())).await;
    let error = prepared.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (SyncErrorKind::Prepare, "no space for the page"));
    assert!(error.source().is_none());
}

#[tokio::test]
async fn what_lies_behind_a_failure_of_the_wire_is_named() {
    let gzip = with_status("200 OK\r\nContent-Encoding: gzip", BODY);
    let broken = ok(format!("<iSAMS><RegistrationManager><{BODY}></iSAMS>"));
    for (url, says) in [
        ("http://127.0.0.1:1".to_owned(), "HTTP: no connection could be made"),
        (answering(Vec::new()), "HTTP: the request could not be sent, or the answer is no HTTP"),
        (answering(broken), "the XML has tags that do not match at byte 37"),
        (answering(gzip), "invalid data"),
    ] {
        let source = Batch::new(&url, KEY).unwrap();
        let source = source.with_total_deadline(std::time::Duration::from_millis(400));
        let error = read_all(&source, &FetchRequest::new(window()), Vec::new).await.unwrap_err();
        check(says, &error);
        let cause = std::error::Error::source(&error).unwrap_or_else(|| panic!("nothing is behind {error}"));
        assert!(format!("{cause}").starts_with(says), "{cause}");
        assert!(!error.to_string().contains(says), "the message does not repeat the cause");
    }
    let source =
        Batch::new(&answering(ok("{\"iSAMS\": {\"RegistrationManager\": {")), KEY).unwrap().with_format(Format::Json);
    let source = source.with_total_deadline(std::time::Duration::from_millis(400));
    let error = read_all(&source, &FetchRequest::new(window()), Vec::new).await.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("the JSON ends early (at byte 35)"));
}
