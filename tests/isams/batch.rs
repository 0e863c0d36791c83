//! The Batch API over real HTTP: every way it fails has its own error, and costs little.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::source::{Item, items};
use crate::common::tenant::{answering, answering_with, ok, with_status};
use rollmark::isams::{Batch, FieldNames, Format};
use rollmark::model::{Record, Registration, Retry};
use rollmark::rules::{Rules, Window};
use rollmark::source::{AttendanceSource, FetchRequest, FetchedKind, SourceError, SourceErrorKind};
use rollmark::store::MemoryStore;
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::{Fault, Simulator};

const KEY: &str = "1b2c3d4e-secret-key";

fn window() -> Window {
    Window::between("2026-11-16".parse().unwrap(), "2026-11-20".parse().unwrap()).unwrap()
}

async fn fetch(source: &Batch) -> Result<Vec<Item>, SourceError> {
    let request = FetchRequest::new(window());
    items(source.fetch(&request).await?).await.into_iter().collect()
}

async fn error_of(url: &str) -> SourceError {
    let error = fetch(&Batch::new(url, KEY).unwrap()).await.unwrap_err();
    assert!(!error.to_string().contains("secret-key"), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn document(statuses: &str) -> String {
    format!(
        "<iSAMS><RegistrationManager><RegistrationCodes /><RegistrationStatuses>{statuses}</RegistrationStatuses>\
         <OutOfSchoolPupils /></RegistrationManager></iSAMS>"
    )
}

fn status(inner: &str) -> String {
    document(&format!(
        "<RegistrationStatus Id=\"1\"><PupilId>4733683260</PupilId><Registered>0</Registered>\
         <RegistrationDateTime>2026-11-20T08:40:00</RegistrationDateTime>{inner}</RegistrationStatus>"
    ))
}

async fn only_row(body: impl AsRef<[u8]>) -> Registration {
    let items = fetch(&Batch::new(&answering(ok(body)), KEY).unwrap()).await.unwrap();
    let mut rows = items.into_iter().filter_map(|item| match item {
        Item::Record(Record::Registration(row)) => Some(row),
        _ => None,
    });
    let row = rows.next().unwrap();
    assert!(rows.next().is_none());
    row
}

#[tokio::test]
async fn a_school_arrives_as_it_is_with_a_verdict_at_the_end() {
    let today = "2026-11-20".parse().unwrap();
    let school = FakeSchool::demo(today);
    let simulator = Simulator::start(school.clone()).await.unwrap();
    let items = fetch(&Batch::new(&simulator.url(), simulator.api_key()).unwrap()).await.unwrap();
    let Some((Item::Complete(verdict), records)) = items.split_last() else { panic!("no verdict") };
    assert!(verdict.covers(FetchedKind::Registrations, window()));
    assert!(verdict.covers(FetchedKind::OutOfSchool, window()));
    let is_in_window =
        |row: &&Registration| window().contains(row.at.school_time(&"Europe/London".parse().unwrap()).date());
    let expected: Vec<_> = school.registrations().iter().filter(is_in_window).collect();
    let rows: Vec<_> = records
        .iter()
        .filter_map(|item| match item {
            Item::Record(Record::Registration(row)) if is_in_window(&row) => Some(row),
            _ => None,
        })
        .collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn what_can_pass_is_tried_again_and_counted() {
    let simulator = Simulator::start(FakeSchool::new()).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    for fault in [Fault::Deadlock, Fault::LockTimeOut, Fault::Status(503, None), Fault::Reset, Fault::HalfDocument] {
        simulator.fail_next(fault);
        let request = FetchRequest::new(window());
        let items = items(source.fetch(&request).await.unwrap()).await;
        assert!(items.iter().all(Result::is_ok), "{fault:?}: {items:?}");
        let tally = request.counters().tally();
        assert_eq!((tally.requests, tally.retries), (3, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again() {
    let simulator = Simulator::start(FakeSchool::new()).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    for fault in [Fault::LoginPage, Fault::EmptyBody, Fault::NotXml, Fault::Status(500, None), Fault::Status(404, None)]
    {
        simulator.fail_next(fault);
        let before = simulator.requests();
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Never);
        assert_eq!(simulator.requests() - before, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn each_failure_has_its_own_error() {
    let simulator = Simulator::start(FakeSchool::new()).await.unwrap();
    assert_eq!(error_of(&simulator.url()).await.kind(), SourceErrorKind::Credentials);
    simulator.allow_methods(["Registration_GetRegistrationCodes"]);
    let error = fetch(&Batch::new(&simulator.url(), simulator.api_key()).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::NotAllowed);
    assert!(error.to_string().contains("registration_getregistrationstatus"), "{error}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = error_of(&format!("http://{nobody}")).await;
    assert_eq!(error.kind(), SourceErrorKind::Connection);
    assert!(error.to_string().contains("tried 4 times"), "{error}");

    for (reply, says) in [
        (ok("<!DOCTYPE html><html></html>"), "HTML page"),
        (ok(""), "empty"),
        (ok("<iSAMS><RegistrationManager>"), "in the middle"),
        (ok("<iSAMS></RegistrationManager>"), "well-formed"),
        (ok("<iSAMS />"), "has no RegistrationCodes"),
        (with_status("500 Internal Server Error", ""), "did not say"),
        (with_status("302 Found\r\nLocation: https://elsewhere.example/", ""), "redirect"),
        (ok("<Message><MessageName>X</MessageName><Title>A\ntitle</Title></Message>"), "A title"),
    ] {
        let error = error_of(&answering(reply)).await;
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_address_is_refused_at_once() {
    for (url, says) in
        [("http://school.isams.cloud", "use https"), ("school", "not a URL"), ("ftp://x", "not an https")]
    {
        let error = Batch::new(url, KEY).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Configuration);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(Batch::new("http://[::1]:80/Main", KEY).is_ok());
}

#[tokio::test]
async fn a_field_that_is_missing_is_named_with_the_option_that_maps_it() {
    let body = document("<Row><Pupil>1</Pupil><Registered>1</Registered></Row>");
    let error = error_of(&answering(ok(body))).await;
    assert_eq!(error.kind(), SourceErrorKind::BadRecord);
    for part in ["registrations in RegistrationStatuses", "Pupil, Registered", "(--field registration_student=NAME)"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_record_that_can_not_be_read_is_told_by_its_place_and_its_id() {
    let times = |first: &str, second: &str| {
        let row = |time: &str| {
            format!("<PupilId>1</PupilId><Registered>1</Registered><RegistrationDateTime>{time}</RegistrationDateTime>")
        };
        document(&format!("<Row Id=\"7\">{}</Row><Row>{}{second}</Row>", row("2026-11-20T08:40:00"), row(first)))
    };
    for (body, says) in [
        (
            times("soon", "<Id>4711</Id>"),
            "row 2 (id 4711) of the registrations in RegistrationStatuses has an unreadable time",
        ),
        (times("soon", ""), "row 2 of the registrations in RegistrationStatuses has an unreadable time in its field"),
        (times("soon", "<Id>to the doctor</Id>"), "row 2 of the registrations in RegistrationStatuses"),
        (
            times("", "<Id>4711</Id>"),
            "row 2 (id 4711) of the registrations in RegistrationStatuses has no field for its time",
        ),
    ] {
        let error = error_of(&answering(ok(body))).await.to_string();
        assert!(error.contains(says) && error.ends_with("(--field registration_time=NAME)"), "{says}: {error}");
        assert!(!error.contains("soon") && !error.contains("doctor") && !error.contains("FieldNames"), "{error}");
    }
    let row = |id: &str| format!(r#"{{"@Id":"{id}","PupilId":"1","Registered":"1","RegistrationDateTime":"soon"}}"#);
    let error =
        json(format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":[{}]}}}}}}"#, row("4711"))).await.unwrap_err();
    assert!(error.to_string().contains("row 1 (id 4711) of the registrations"), "{error}");
}

#[tokio::test]
async fn a_replaced_field_name_is_found() {
    let body = status("<Mark>17</Mark>");
    let mut names = FieldNames::default();
    names.registration_code = vec!["mark".to_owned()];
    let source = Batch::new(&answering(ok(body)), KEY).unwrap().with_field_names(names);
    let items = fetch(&source).await.unwrap();
    let code = items.iter().find_map(|item| match item {
        Item::Record(Record::Registration(row)) => row.code.clone(),
        _ => None,
    });
    assert_eq!(code.unwrap().as_str(), "17");
}

#[tokio::test]
async fn text_is_read_in_every_encoding_and_form() {
    let body = status("<Reason Legacy=\"True\"> O&apos;Neil &#233;&#x20AC; <![CDATA[<ü>]]> </Reason>");
    let mut utf8_with_mark = vec![0xEF, 0xBB, 0xBF];
    utf8_with_mark.extend_from_slice(body.as_bytes());
    let claimed = format!("<?xml version=\"1.0\" encoding=\"utf-16\"?>{body}");
    let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xFEFF).chain(body.encode_utf16()).flat_map(order).collect()
    };
    for bytes in [
        body.clone().into_bytes(),
        utf8_with_mark,
        claimed.into_bytes(),
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
    ] {
        assert_eq!(only_row(bytes).await.comment.as_deref(), Some("O'Neil é€ <ü>"));
    }
}

#[tokio::test]
async fn an_unreadable_optional_field_is_noted() {
    let row = only_row(status("<LastUpdated>yesterday</LastUpdated><Late></Late>")).await;
    assert_eq!(row.last_updated, None);
    assert_eq!(row.unreadable.len(), 1);
}

#[tokio::test]
async fn a_date_beside_a_time_of_day_is_refused() {
    for time in ["08:00", "08:00:00.000", "08:00 AM", "1900-01-01T08:00:00", "PT8H"] {
        let body = format!(
            "<iSAMS><RegistrationCodes/><RegistrationStatuses/><OutOfSchoolPupils><Row><PupilId>1</PupilId>\
             <StartDate>2026-11-20</StartDate><StartTime>{time}</StartTime></Row></OutOfSchoolPupils></iSAMS>"
        );
        let error = error_of(&answering(ok(body))).await;
        assert!(error.to_string().contains("(--field out_of_school_from=NAME)"), "{error}");
    }
}

#[tokio::test]
async fn a_hostile_reply_costs_bounded_memory_and_gives_a_clear_error() {
    let many_attributes: String = (0..200_000).map(|number| format!(" a{number}=\"\"")).collect();
    let short_attributes: String = (0..100_000).map(|number| format!(" a{number:x}=\"\"")).collect();
    let long_texts: String = (0..400).map(|number| format!("<a{number}>{:9999}</a{number}>", "x")).collect();
    let cases = [
        (document(&format!("<Row{short_attributes}/>")), "hundreds of fields"),
        (document(&format!("<Row>{long_texts}</Row>")), "a record of more than a megabyte"),
        (format!("<iSAMS><RegistrationStatuses><Row{many_attributes}/>"), "more than a megabyte"),
        ("<a>".repeat(100), "nested more than 32 levels deep"),
        ("<!DOCTYPE x [<!ENTITY a \"b\">]><iSAMS />".to_owned(), "document type declaration"),
        (document("<Row><PupilId>&a;</PupilId></Row>"), "an entity"),
        (document(&format!("<Row>{}</Row>", "<a>1</a>".repeat(1_000))), "hundreds of fields"),
    ];
    for (body, says) in cases {
        let error = error_of(&answering(ok(body))).await;
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

/// Sends a beginning, then the same bytes for as long as anybody reads.
fn endless(beginning: &'static str, more: &'static [u8]) -> String {
    answering_with(move |stream| {
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{beginning}").as_bytes());
        let block = more.repeat(8_192);
        while stream.write_all(&block).is_ok() {}
    })
}

#[tokio::test]
async fn an_endless_text_is_stopped_after_a_megabyte() {
    let error = error_of(&endless("<iSAMS><RegistrationStatuses><Row><Reason>", b"endless ")).await;
    assert_eq!(error.kind(), SourceErrorKind::TooLarge);
}

#[tokio::test]
async fn an_endless_reply_is_stopped_at_the_limit() {
    let url = endless("<iSAMS>", b"<a>x</a>");
    let error = fetch(&Batch::new(&url, KEY).unwrap().with_max_bytes(8 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TooLarge);
}

#[tokio::test]
async fn a_gzip_bomb_is_stopped_by_its_size_after_decompression() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(b"<iSAMS>").unwrap();
    for _ in 0..64 {
        bomb.write_all(&b"<a>x</a>".repeat(1 << 17)).unwrap();
    }
    let reply = with_status("200 OK\r\nContent-Encoding: gzip", bomb.finish().unwrap());
    let error = fetch(&Batch::new(&answering(reply), KEY).unwrap().with_max_bytes(8 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TooLarge);
}

#[tokio::test]
async fn a_reply_that_never_comes_is_given_up_at_the_deadline() {
    let url = answering_with(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n<");
        std::thread::park_timeout(Duration::from_secs(20));
    });
    let source = Batch::new(&url, KEY).unwrap().with_total_deadline(Duration::from_millis(300));
    assert_eq!(fetch(&source).await.unwrap_err().kind(), SourceErrorKind::TimedOut);
}

#[tokio::test]
async fn a_reply_with_the_suspicious_number_of_rows_is_asked_for_in_parts() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let whole = fetch(&Batch::new(&simulator.url(), simulator.api_key()).unwrap()).await.unwrap();
    simulator.cap_rows(200);
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_suspicious_rows(Some(200));
    let parts = fetch(&source).await.unwrap();
    let rows = |items: &[Item]| items.iter().filter(|item| matches!(item, Item::Record(_))).count();
    assert_eq!(rows(&parts), rows(&whole), "no record lies in two parts here");

    simulator.cap_rows(100);
    let source = source.with_suspicious_rows(Some(100));
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Incomplete);
    // Several days are asked for at the same time; any of them can be the first to say so.
    assert!(error.to_string().contains("the reply for 2026-11-"), "{error}");
}

/// So many rows that a reply with them is read while it arrives.
fn large(rows: usize) -> String {
    let row = |number: usize| {
        format!(
            "<RegistrationStatus Id=\"{number}\"><PupilId>{number}</PupilId><Registered>1</Registered>\
             <RegistrationDateTime>2026-11-20T08:40:00</RegistrationDateTime><Reason>{:99}</Reason></RegistrationStatus>",
            "x"
        )
    };
    (0..rows).map(row).collect()
}

#[tokio::test]
async fn no_row_of_a_large_reply_that_breaks_off_counts() {
    let whole = document(&large(30_000));
    assert!(whole.len() > 6 << 20);
    let deadlock =
        "<Message><MessageName>UnhandledException</MessageName><Description>It was deadlocked.</Description>";
    let ends = whole.rfind("</RegistrationStatuses>").unwrap();
    let broken = [
        ok(format!("{}</RegistrationStatuses>{deadlock}</Message></RegistrationManager></iSAMS>", &whole[..ends])),
        ok(&whole[..ends]),
        ok(&whole).split_at(6 << 20).0.to_vec(),
    ];
    for broken in broken {
        let asked = AtomicUsize::new(0);
        let small = ok(status(""));
        let url = crate::common::tenant::answering_to(move |request| {
            let is_first = request.contains("GetRegistrationStatus") && asked.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first { broken.clone() } else { small.clone() }
        });
        let source = Batch::new(&url, KEY).unwrap();
        let store = MemoryStore::new();
        let sync = AttendanceSync::new(source, store.clone(), "school", Rules::new("Europe/London".parse().unwrap()));
        let report = sync.run(SyncRequest::targeted(window())).await.unwrap();
        assert_eq!((report.marks.added, report.fetched.registrations, report.fetched.retries), (1, 1, 1));
        assert_eq!(report.fetched.requests, 4, "the codes and the rows, twice");
    }
}

#[tokio::test]
async fn one_deadline_holds_for_a_fetch_however_often_it_is_started_again() {
    let whole = document(&large(30_000));
    let broken = ok(&whole).split_at(6 << 20).0.to_vec();
    let small = ok(status(""));
    let url = crate::common::tenant::answering_to(move |request| {
        if request.contains("GetRegistrationStatus") { broken.clone() } else { small.clone() }
    });
    // The waits between four tries alone are longer; each try alone would keep to it.
    let source = Batch::new(&url, KEY).unwrap().with_total_deadline(Duration::from_millis(1_500));
    let sync = AttendanceSync::new(source, MemoryStore::new(), "school", Rules::new("Europe/London".parse().unwrap()));
    let error = sync.run(SyncRequest::targeted(window())).await.unwrap_err();
    assert!(error.to_string().contains("within the time that is set for a fetch"), "{error}");
}

#[tokio::test]
async fn a_large_reply_that_looks_cut_is_asked_for_day_by_day() {
    let mut school = FakeSchool::new();
    for (number, day) in (18..=20).flat_map(|day| (0..1_500).map(move |number| (number, day))) {
        let mut row =
            school.registration(&format!("{day}{number}"), &number.to_string(), &format!("2026-11-{day}T08:40:00"));
        row.present().comment = Some("x".repeat(3_000).into());
    }
    let simulator = Simulator::start(school).await.unwrap();
    simulator.cap_rows(2_000);
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    let sync =
        AttendanceSync::new(source.clone(), MemoryStore::new(), "school", Rules::new("Europe/London".parse().unwrap()));
    let report = sync.run(SyncRequest::targeted(window())).await.unwrap();
    assert_eq!(report.fetched.registrations, 4_500);

    simulator.cap_rows(1_400);
    let sync = AttendanceSync::new(
        source.with_suspicious_rows(Some(1_400)),
        MemoryStore::new(),
        "school",
        Rules::new(rollmark::model::Zone::utc()),
    );
    let error = sync.run(SyncRequest::targeted(window())).await.unwrap_err();
    assert!(error.to_string().contains("the reply for 2026-11-"), "{error}");
}

#[tokio::test]
async fn a_status_counts_even_if_its_body_is_broken() {
    for (status, kind, requests) in [
        ("401 Unauthorized", SourceErrorKind::Credentials, 1),
        ("403 Forbidden", SourceErrorKind::NotAllowed, 1),
        ("404 Not Found", SourceErrorKind::BadReply, 1),
        ("503 Unavailable\r\nRetry-After: 0", SourceErrorKind::Server, 4),
    ] {
        let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 100\r\nConnection: close\r\n\r\n<Message>");
        let request = FetchRequest::new(window());
        let source = Batch::new(&answering(reply), KEY).unwrap();
        let items = items(source.fetch(&request).await.unwrap()).await;
        assert_eq!(items.last().unwrap().as_ref().unwrap_err().kind(), kind, "{status}");
        assert_eq!(request.counters().tally().requests, requests, "{status}");
    }
}

#[tokio::test]
async fn both_formats_read_repeated_nested_and_empty_elements_alike() {
    let required = r#""Registered":"0","RegistrationDateTime":"2026-11-20T08:40:00""#;
    let in_json = format!(
        r##"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{"Student":{{"@Id":"7","PupilId":"1"}},"Code":[null,"17","9"],"PupilId":{{"A":"4","B":"2"}},{required}}}}}}}}}"##
    );
    let in_xml = document(
        "<Row><Student Id=\"7\"><PupilId>1</PupilId></Student><Code/><Code>17</Code><Code>9</Code>\
         <PupilId><A>4</A><B>2</B></PupilId><Registered>0</Registered>\
         <RegistrationDateTime>2026-11-20T08:40:00</RegistrationDateTime></Row>",
    );
    let row = only_row(in_xml).await;
    assert_eq!((row.student.as_str(), row.code.as_ref().unwrap().as_str()), ("42", "17"));
    let items = json(in_json).await.unwrap();
    assert!(items.contains(&Item::Record(Record::Registration(row))), "{items:?}");

    let empty = "RegistrationStatuses has no field for its student; its fields are: none";
    assert!(error_of(&answering(ok(document("<Row/>")))).await.to_string().contains(empty));
    let error = json(r#"{"iSAMS":{"RegistrationStatuses":{"Row":[null]}}}"#).await.unwrap_err();
    assert!(error.to_string().contains(empty), "{error}");
}

#[tokio::test]
async fn no_limit_of_time_is_no_limit() {
    let source = Batch::new(&answering(ok(document(""))), KEY).unwrap().with_total_deadline(Duration::MAX);
    assert_eq!(fetch(&source).await.unwrap().len(), 1);
}

#[tokio::test]
async fn neither_debug_nor_display_shows_the_key() {
    let source = Batch::new("https://school.isams.cloud", KEY).unwrap();
    assert_eq!(format!("{source} {source:?}"), "iSAMS at school.isams.cloud Batch(\"school.isams.cloud\")");
}

async fn json(body: impl AsRef<[u8]>) -> Result<Vec<Item>, SourceError> {
    fetch(&Batch::new(&answering(ok(body)), KEY).unwrap().with_format(Format::Json)).await
}

#[tokio::test]
async fn json_is_read_through_all_its_quirks() {
    let row = r##"{"@Id":"1","PupilId":"4733683260","Registered":"0","RegistrationDateTime":"2026-11-20T08:40:00","Reason":{"@Legacy":"True","#text":" O'Neil \u00e9 "},"Code":"","Late":null}"##;
    let under_a_name = |rows: String| format!(r#"{{"@Count":"1","RegistrationStatus":{rows}}}"#);
    for rows in [under_a_name(row.to_owned()), under_a_name(format!("[{row}]")), format!("[{row}]")] {
        let body = format!(
            r##"{{"iSAMS":{{"RegistrationManager":{{"RegistrationStatuses":{rows},"OutOfSchoolPupils":null,"RegistrationCodes":""}}}}}}"##
        );
        let items = json(body).await.unwrap();
        let rows: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Item::Record(Record::Registration(row)) => Some(row),
                _ => None,
            })
            .collect();
        let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
        assert_eq!((row.comment.as_deref(), &row.code, row.registered), (Some("O'Neil é"), &None, false));
        assert!(matches!(items.last(), Some(Item::Complete(verdict)) if verdict.rows(FetchedKind::Registrations) == 1));
    }
}

#[tokio::test]
async fn each_failure_of_json_has_its_own_error() {
    let long = format!(r#"{{"iSAMS":{{"x":"{}"}}}}"#, "y".repeat(3 << 20));
    let deep = format!(r#"{{"iSAMS":{}"#, r#"{"a":"#.repeat(500));
    for (body, says) in [
        ("<!DOCTYPE html><html></html>", "HTML page"),
        ("<Message><MessageName>InvalidApiKey</MessageName></Message>", "refuses the API key"),
        (r#"{"Message":{"MessageName":"InvalidApiKey","Title":"Wrong key"}}"#, "Wrong key"),
        (r#"{"iSAMS":{"RegistrationManager":{"#, "in the middle"),
        (r#"{"iSAMS" "x"}"#, "well-formed JSON"),
        ("[]", "not from iSAMS"),
        (&long, "more than a megabyte"),
        (&deep, "JSON"),
        (r#"{"iSAMS":{"RegistrationStatuses":{"Row":{"Pupil":"1"}}}}"#, "--field registration_student=NAME"),
        (r#"{"iSAMS":{"RegistrationStatuses":[{"Pupil":"1"}]}}"#, "RegistrationStatuses has no field"),
        (r#"{"iSAMS":{"RegistrationStatuses":{"Row":"1"}}}"#, "RegistrationStatuses has no field"),
        (r#"{"iSAMS":{"RegistrationStatuses":{"Row":[1,2]}}}"#, "RegistrationStatuses has no field"),
        (r#"{"iSAMS":{"RegistrationStatuses":"1"}}"#, "text where iSAMS sends records"),
    ] {
        let error = json(body).await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn an_oauth_client_gets_one_token_for_all_and_a_fresh_one_when_it_is_refused() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let source = Batch::for_client(&simulator.url(), simulator.client_id(), simulator.client_secret()).unwrap();
    let (first, second) = futures::join!(fetch(&source), fetch(&source));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(simulator.requests(), 5, "one token and four replies");
    simulator.revoke_token();
    let request = FetchRequest::new(window());
    let items = items(source.fetch(&request).await.unwrap()).await;
    assert!(items.iter().all(Result::is_ok));
    let tally = request.counters().tally();
    assert_eq!((tally.requests, tally.retries), (4, 1), "a refused request, a token, two replies");
}

#[tokio::test]
async fn a_refused_oauth_client_is_named_and_its_secret_is_not() {
    let simulator = Simulator::start(FakeSchool::new()).await.unwrap();
    let source = Batch::for_client(&simulator.url(), simulator.client_id(), KEY).unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Credentials);
    assert!(error.to_string().contains("OAuth client") && !error.to_string().contains(KEY), "{error}");
}

#[tokio::test]
async fn a_message_is_quoted_without_the_key_in_any_form() {
    let key = "{1B2C3D4E-0000-4000-8000-0123456789AB}";
    let bare = key.trim_matches(['{', '}']);
    let entities: String = bare.chars().map(|letter| format!("&amp;#{};", letter as u32)).collect();
    let escapes: String = bare.chars().map(|letter| format!("\\u{:04x}", letter as u32)).collect();
    let hex: String = bare.bytes().map(|byte| format!("{byte:02x}")).collect();
    for echo in [
        key,
        bare,
        &bare.to_lowercase(),
        &bare.replace('-', ""),
        &bare[..18],
        &format!("apiKey=%7B{bare}%7D&amp;x=1"),
        &entities,
        &escapes,
        &hex,
        "ezFCMkMzRDRFLTAwMDAtNDAwMC04MDAwLTAxMjM0NTY3ODlBQn0=",
        &format!("{}\u{200B}{}", &bare[..10], &bare[10..]),
        &format!("{}\u{00AD}{}\u{E0041}{}", &bare[..10], &bare[10..20], &bare[20..]),
    ] {
        let said = format!("<Message><Title>T {echo}</Title><Description>Got {echo} here.</Description></Message>");
        let source = Batch::new(&answering(with_status("500 Oops", said)), key).unwrap();
        let error = fetch(&source).await.unwrap_err();
        assert!(error.to_string().ends_with("T …: Got … here."), "{echo}: {error}");
    }
    // A secret without a digit, or a short one, is known by itself.
    for secret in ["correct horse battery", "tiger", "tiger7"] {
        let said = format!(
            "<Message><Title>T</Title><Description>Got x{secret}x\n{}.</Description></Message>",
            secret.to_uppercase()
        );
        let said = said.replace(' ', "\n");
        let error = fetch(&Batch::new(&answering(with_status("500 Oops", said)), secret).unwrap()).await.unwrap_err();
        assert!(error.to_string().ends_with("T: Got x…x …."), "{error}");
    }
}

#[tokio::test]
async fn a_field_whose_name_holds_the_key_is_not_named() {
    let key = "1b2c3d4e-0000-4000-8000-0123456789ab";
    let long = "A".repeat(41);
    let escaped = key.chars().map(|letter| format!("\\u{:04x}", letter as u32)).collect::<String>();
    for name in [key, "X1b2c3d4e-0000-4000", &escaped, "%31%62%32", "two words", &long, "plain-secret", ""] {
        let body = format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{"Pupil":"1","{name}":"1"}}}}}}}}"#);
        for key in [key, "plain-secret"] {
            let source = Batch::new(&answering(ok(&body)), key).unwrap().with_format(Format::Json);
            let error = fetch(&source).await.unwrap_err().to_string();
            assert!(error.contains("its fields are:") && error.contains("Pupil"), "{error}");
            assert!(!error.contains(&key[..12]), "{error}");
            assert!(error.contains("(a name that is not shown)") || name == "plain-secret", "{name}: {error}");
        }
        let twice = format!(r#"{{"iSAMS":{{"{name}":"1","{name}":"1"}}}}"#);
        let error = json(twice).await.unwrap_err().to_string();
        assert!(error.contains("twice") && !error.contains("1b2c3d4e"), "{error}");
    }
}

#[tokio::test]
async fn a_long_message_costs_little_and_is_cut() {
    let echoes = "1b2c3d4e-0000-4000-8000-0123456789ab ".repeat(25_000);
    let reply = with_status("500 Oops", format!("<Message><Description>{echoes}</Description></Message>"));
    let error = fetch(&Batch::new(&answering(reply), KEY).unwrap()).await.unwrap_err();
    let said = error.to_string().rsplit(": ").next().unwrap().to_owned();
    assert!(said.chars().count() == 300 && said.chars().all(|letter| matches!(letter, '…' | ' ')), "{error}");
}

#[tokio::test]
async fn a_page_for_people_is_named_whatever_its_status() {
    let page = "<!DOCTYPE html><html><body>Go away</body></html>";
    for (status, kind, says) in [
        ("403 Forbidden", SourceErrorKind::NotAllowed, "iSAMS refuses the request"),
        ("404 Not Found", SourceErrorKind::BadReply, "no iSAMS interface"),
        ("500 Oops", SourceErrorKind::BadReply, "something other than iSAMS"),
        ("502 Bad Gateway", SourceErrorKind::Server, "can't answer now"),
        ("520 Unknown", SourceErrorKind::BadReply, "something other than iSAMS"),
    ] {
        let error = error_of(&answering(with_status(status, page))).await;
        assert_eq!(error.kind(), kind, "{status}");
        let code = &status[..3];
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&format!("(HTTP status {code}, with an HTML page")), "{error}");
    }
    let error = fetch(&Batch::for_client(&answering(ok(page)), "id", KEY).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("HTML page"), "{error}");
}

#[tokio::test]
async fn what_follows_a_document_or_stands_between_records_is_refused() {
    let whole = status("");
    let json_whole = r#"{"iSAMS":{"RegistrationStatuses":null}}"#;
    for body in [format!("{whole}<html/>"), format!("{whole} text"), format!("{whole}{whole}")] {
        let error = error_of(&answering(ok(body))).await;
        assert!(error.to_string().contains("goes on after the end"), "{error}");
    }
    for body in [format!("{json_whole}{json_whole}"), format!("{json_whole} x")] {
        let error = json(body).await.unwrap_err();
        assert!(error.to_string().contains("goes on after the end"), "{error}");
    }
    assert!(json(format!("{json_whole}\r\n\0\0\u{FEFF}")).await.is_ok());
    only_row(format!("{whole}\n\0\0\u{FEFF}")).await;
    only_row(format!("{whole}\r\n<!-- end -->")).await;
    let error = error_of(&answering(ok(document("many records")))).await;
    assert!(error.to_string().contains("text where iSAMS sends records"), "{error}");
    let error = error_of(&answering(ok(document("<![CDATA[many records]]>")))).await;
    assert!(error.to_string().contains("text where iSAMS sends records"), "{error}");
    let error = error_of(&answering(ok(document("<Row><PupilId>1&#1;</PupilId></Row>")))).await;
    assert!(error.to_string().contains("unreadable student"), "{error}");
    let row = r#""Registered":"1","RegistrationDateTime":"2026-11-20T08:40:00""#;
    let error =
        json(format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{"PupilId":473368326012345678901,{row}}}}}}}}}"#))
            .await;
    assert!(error.unwrap_err().to_string().contains("too large to be exact"));
}

#[tokio::test]
async fn what_goes_wrong_in_the_midst_of_rows_is_named() {
    let row = "<Row><PupilId>1</PupilId><Registered>1</Registered>\
               <RegistrationDateTime>2026-11-20T08:40:00</RegistrationDateTime></Row>";
    let message =
        "<Message><MessageName>UnhandledException</MessageName><Description>deadlocked</Description></Message>";
    let begun = format!("<iSAMS><RegistrationCodes/><OutOfSchoolPupils/><RegistrationStatuses>{row}");
    let error = error_of(&answering(ok(format!("{begun}{message}</RegistrationStatuses></iSAMS>")))).await;
    assert!(error.to_string().contains("too busy to answer: deadlocked (tried 4 times"), "{error}");
    let error = error_of(&answering(ok(format!("{begun}<html><body>Log in</body></html>")))).await;
    assert!(error.to_string().contains("HTML page"), "{error}");
    let in_json = r#"{"iSAMS":{"RegistrationStatuses":{"Message":{"Description":"deadlocked"}}}}"#;
    assert!(json(in_json).await.unwrap_err().to_string().contains("too busy to answer"));
    let beside = r##"{"iSAMS":{"RegistrationStatuses":{"#text":["\n",""],"#comment":[],"#whitespace":"x"}}}"##;
    assert!(json(beside).await.is_ok());
    let text = r##"{"iSAMS":{"RegistrationStatuses":{"#text":"one, two"}}}"##;
    assert!(json(text).await.unwrap_err().to_string().contains("text where iSAMS sends records"));
}

#[tokio::test]
async fn more_records_than_the_limit_are_too_many() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    // 800 rows in a window of five days.
    assert!(fetch(&source.clone().with_max_rows_per_day(160)).await.is_ok());
    let error = fetch(&source.with_max_rows_per_day(159)).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TooLarge);
    assert!(error.to_string().contains("registrations, so reading stopped there"), "{error}");
    // Out-of-school records are asked for from half a year earlier on, so their days are more.
    let mut school = FakeSchool::new();
    (0..20).for_each(|id| {
        school.out_of_school(&id.to_string(), "1", "2026-11-16", "2026-11-20");
    });
    let simulator = Simulator::start(school).await.unwrap();
    assert!(fetch(&Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_max_rows_per_day(1)).await.is_ok());
}

#[tokio::test]
async fn a_code_table_that_looks_cut_is_refused() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_suspicious_rows(Some(4));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("the code table has exactly"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_followed_on_the_same_host_and_port_only() {
    let elsewhere = Simulator::start(FakeSchool::new()).await.unwrap();
    let target = format!("{}/api/batch/1.0/xml.ashx?apiKey={}", elsewhere.url(), elsewhere.api_key());
    let away = with_status(&format!("307 Temporary Redirect\r\nLocation: {target}"), "");
    let error = error_of(&answering(away)).await;
    assert!(error.to_string().contains("redirect"), "{error}");
    assert_eq!(elsewhere.requests(), 0, "another port is another server");

    let row = status("");
    let url = crate::common::tenant::answering_by_path(move |path| match path {
        "/moved" => ok(&row),
        _ => with_status("307 Temporary Redirect\r\nLocation: /moved", ""),
    });
    assert_eq!(fetch(&Batch::new(&url, KEY).unwrap()).await.unwrap().len(), 2);

    let loses_the_body = with_status("302 Found\r\nLocation: /elsewhere", "");
    let error = error_of(&answering(loses_the_body)).await;
    assert!(error.to_string().contains("redirect"), "{error}");
}

#[tokio::test]
async fn an_error_says_how_often_and_how_long_it_was_tried() {
    let url = answering(with_status("429 Too Many\r\nRetry-After: 3600", ""));
    let source = Batch::new(&url, KEY).unwrap().with_total_deadline(Duration::from_secs(5));
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Throttled);
    assert_eq!(error.retry(), Retry::After(Duration::from_secs(3_600)));
    assert!(error.to_string().contains("(tried once in 0.0 s)"), "{error}");
    let silent = answering_with(|_| std::thread::park_timeout(Duration::from_secs(20)));
    let source = Batch::new(&silent, KEY).unwrap().with_total_deadline(Duration::from_millis(300));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("(tried once in 0.3 s)"), "{error}");
}

/// A tenant that gives this token reply, and an empty school to whoever has the token; and how many tokens it gave.
fn giving_tokens(reply: &'static str) -> (String, Arc<AtomicUsize>) {
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let url = crate::common::tenant::answering_by_path(move |path| match path {
        "/auth/connect/token" => {
            count.fetch_add(1, Ordering::SeqCst);
            ok(reply)
        }
        _ => ok(document("")),
    });
    (url, given)
}

#[tokio::test]
async fn a_token_serves_as_long_as_its_reply_says() {
    for (expires_in, tokens) in [
        ("3600", 1),
        ("\"3600\"", 1),
        ("3600.0", 1),
        ("1e300", 1),
        // Unknown: until it is refused.
        ("null", 1),
        ("\"soon\"", 1),
        ("0", 4),
        ("-5", 4),
    ] {
        let reply = format!(r#"{{"access_token":"Token-4711","token_type":"Bearer","expires_in":{expires_in}}}"#);
        let (url, given) = giving_tokens(reply.leak());
        let source = Batch::for_client(&url, "id", KEY).unwrap();
        fetch(&source).await.unwrap();
        fetch(&source).await.unwrap();
        assert_eq!(given.load(Ordering::SeqCst), tokens, "{expires_in}: two fetches of two requests");
    }
}

#[tokio::test]
async fn a_token_reply_that_is_cut_off_is_asked_for_again() {
    let (url, given) = giving_tokens(r#"{"access_token":"Token-4711","expi"#);
    let error = fetch(&Batch::for_client(&url, "id", KEY).unwrap()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("middle of the document; run again later; if it stays so, ask iSAMS support (tried 4 times"),
        "{error}"
    );
    assert_eq!(given.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_lifetime_as_text_and_a_reply_without_a_token() {
    let reply = |body: &str| with_status("200 OK\r\nContent-Type: application/json", body);
    // The tenant answers everything alike: with a token at hand, the data are what is wrong next.
    for (body, says) in
        [(r#"{"access_token":"a","expires_in":"3600"}"#, "not XML"), (r#"{"token_type":"Bearer"}"#, "no token")]
    {
        let url = answering(reply(body));
        let source = Batch::for_client(&url, "id", KEY).unwrap();
        let error = fetch(&source).await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn a_hostile_reply_in_json_costs_bounded_memory_too() {
    let field = |number: usize| format!("\"a{number}\":\"1\"");
    let fields = |count| (0..count).map(field).collect::<Vec<_>>().join(",");
    let row = |row: &str| {
        format!(
            r#"{{"iSAMS":{{"RegistrationManager":{{"RegistrationStatuses":{{"RegistrationStatus":{{{row}}}}}}}}}}}"#
        )
    };
    let cases = [
        (row(&fields(100_000)), "hundreds of fields"),
        (row(&format!(r#""Reason":"{}""#, "x".repeat(2 << 20))), "more than a megabyte"),
        (r#"{"a":"#.repeat(100_000), "well-formed"),
        ("[".repeat(100_000), "well-formed"),
    ];
    for (body, says) in cases {
        let error = json(&body).await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
    let source = Batch::new(&endless(r#"{"iSAMS":{"a":""#, b"endless "), KEY).unwrap().with_format(Format::Json);
    assert_eq!(fetch(&source).await.unwrap_err().kind(), SourceErrorKind::TooLarge);
}

#[tokio::test]
async fn a_length_that_lies_never_gives_part_of_the_rows() {
    let body = status("");
    let claiming = |length: usize| {
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        answering(reply)
    };
    let too_long = error_of(&claiming(body.len() + 1_000)).await;
    assert_eq!(too_long.kind(), SourceErrorKind::Connection, "{too_long}");
    let too_short = error_of(&claiming(body.len() / 2)).await;
    assert!(too_short.to_string().contains("middle of the document"), "{too_short}");
}

#[tokio::test]
async fn a_reply_that_drips_without_an_end_is_given_up_at_the_deadline() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    for format in [Format::Xml, Format::Json] {
        simulator.fail_next(Fault::SlowDrip);
        let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_format(format);
        let error = fetch(&source.with_total_deadline(Duration::from_millis(500))).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::TimedOut, "{error}");
    }
}

#[tokio::test]
async fn the_content_type_of_a_reply_does_not_matter() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    let expected = fetch(&source).await.unwrap();
    simulator.fail_next(Fault::WrongContentType);
    simulator.fail_next(Fault::WrongContentType);
    assert_eq!(fetch(&source).await.unwrap(), expected);
}

#[tokio::test]
async fn a_tenant_with_other_field_names_is_read_once_they_are_mapped() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    let expected = fetch(&source).await.unwrap();
    simulator.rename_field("StartDateTime", "AwayFrom");
    let mut names = FieldNames::default();
    names.out_of_school_from = vec!["AwayFrom".to_owned()];
    for format in [Format::Xml, Format::Json] {
        let error = fetch(&source.clone().with_format(format)).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::BadRecord);
        for says in ["out-of-school records", "AwayFrom", "EndDateTime", "--field out_of_school_from=NAME"] {
            assert!(error.to_string().contains(says), "{says}: {error}");
        }
        assert_eq!(fetch(&source.clone().with_format(format).with_field_names(names.clone())).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn slices_cover_the_window_once() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    let registrations = |items: Vec<Item>| {
        let mut rows: Vec<_> = items
            .into_iter()
            .filter_map(|item| match item {
                Item::Record(Record::Registration(row)) => row.id.map(|id| id.to_string()),
                _ => None,
            })
            .collect();
        rows.sort();
        rows
    };
    let expected = registrations(fetch(&source).await.unwrap());
    for days in [1, 2, 4, 5, 100] {
        let items = fetch(&source.clone().with_slice_days(Some(days))).await.unwrap();
        let Some(Item::Complete(verdict)) = items.last() else { panic!("no verdict") };
        assert!(verdict.covers(FetchedKind::OutOfSchool, window()), "{days} days");
        assert_eq!(registrations(items), expected, "{days} days");
    }
}

/// A container with its rows; the first name of each row is its element's.
type Container<'a> = (&'a str, Vec<Vec<(&'a str, &'a str)>>);

/// The same reply in both formats.
fn in_both(containers: &[Container<'_>]) -> [(Format, String); 2] {
    let row = |fields: &Vec<(&str, &str)>| {
        let fields: String = fields.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        format!("<Row>{fields}</Row>")
    };
    let xml = |(name, rows): &Container<'_>| format!("<{name}>{}</{name}>", rows.iter().map(row).collect::<String>());
    let xml: String = containers.iter().map(xml).collect();
    let row = |fields: &Vec<(&str, &str)>| {
        serde_json::Value::from_iter(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    };
    let json = |(name, rows): &Container<'_>| {
        let rows: Vec<_> = rows.iter().map(row).collect();
        ((*name).to_owned(), serde_json::json!({ "Row": rows }))
    };
    let json = serde_json::Value::from_iter(containers.iter().map(json));
    [(Format::Xml, format!("<iSAMS>{xml}</iSAMS>")), (Format::Json, serde_json::json!({ "iSAMS": json }).to_string())]
}

/// A reply with these out-of-school records of one student, and codes 17 (M) and 1.
fn away(records: Vec<Vec<(&str, &str)>>) -> [(Format, String); 2] {
    let code = |id, letter| vec![("Id", id), ("Code", letter), ("Absence", "1")];
    let required = [("PupilId", "1"), ("StartDateTime", "2026-11-20T08:00:00")];
    let records = records.into_iter().map(|record| [&required[..], &record].concat()).collect();
    in_both(&[
        ("RegistrationCodes", vec![code("17", "M"), code("1", "0")]),
        ("RegistrationStatuses", vec![]),
        ("OutOfSchoolPupils", records),
    ])
}

fn verdict(items: &[Item]) -> &rollmark::source::Completeness {
    let Some(Item::Complete(verdict)) = items.last() else { panic!("no verdict") };
    verdict
}

const IDS: [&str; 6] = ["60", "61", "62", "63", "64", "65"];

#[tokio::test]
async fn an_error_object_is_an_error_whatever_its_status_and_whatever_is_beside_it() {
    let archived = r#""The registration period 1b2c3d4e-secret-key has\n been archived.""#;
    for body in [
        format!(r#"{{"message":{archived},"errors":[]}}"#),
        format!(r#"{{"success":false,"message":{archived},"data":[]}}"#),
        format!(r#"{{"Message":{archived}}}"#),
        format!(r#"{{"message":[{archived}]}}"#),
        format!(r##"{{"message":{{"@Id":"1","#text":{archived}}}}}"##),
        format!(r#"{{"error":{{"message":{archived}}}}}"#),
        format!(r#"{{"error":{archived}}}"#),
        format!(r#"{{"errors":[{archived}]}}"#),
        format!(r#"{{"iSAMS":{{"error":{archived},"RegistrationManager":{{"RegistrationStatuses":null}}}}}}"#),
        format!(r#"{{"iSAMS":{{"RegistrationManager":null}},"message":{archived}}}"#),
        format!(r#"{{"iSAMS":{{"message":{archived},"RegistrationStatuses":null}}}}"#),
        format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"message":{archived}}}}}}}"#),
    ] {
        let error = json(&body).await.unwrap_err().to_string();
        assert!(error.contains("HTTP status 200"), "{body}: {error}");
        assert!(error.contains("The registration period … has been archived."), "{body}: {error}");
    }
    for body in [r#"{"iSAMS":{},"message":null}"#, r#"{"iSAMS":{},"message":"","errors":[],"error":false}"#] {
        assert!(json(body).await.is_ok(), "nothing is said in {body}");
    }
    let error =
        error_of(&answering(ok("<Error><Message>An &quot;error&quot;<!-- x --> has occurred.</Message></Error>")))
            .await;
    assert!(error.to_string().ends_with("(HTTP status 200): An \"error\" has occurred."), "{error}");
}

#[tokio::test]
async fn a_school_without_a_code_table_is_not_asked_for_one() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    simulator.allow_methods(["Registration_GetRegistrationStatus", "Registration_GetOutOfSchoolPupils"]);
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    assert!(source.capabilities().has_code_table);
    assert_eq!(fetch(&source).await.unwrap_err().kind(), SourceErrorKind::NotAllowed);
    let source = source.with_code_table(false);
    assert!(!source.capabilities().has_code_table);
    let items = fetch(&source).await.unwrap();
    assert!(verdict(&items).parts().iter().all(|part| part.kind != FetchedKind::Codes));
}

#[tokio::test]
async fn a_stamp_or_code_under_an_unlisted_name_is_not_passed_over() {
    let saved = |id| vec![("Id", id), ("SavedAt", "2026-11-20T09:30:00"), ("Code", "17")];
    let coded = |id| vec![("Id", id), ("LastModified", "2026-11-20T09:30:00"), ("Kind", "17"), ("Flag", "1")];
    for (records, field, option, kept) in [
        (IDS.map(saved), "SavedAt", "out_of_school_updated", "Kind"),
        (IDS.map(coded), "Kind", "out_of_school_code", "SavedAt"),
    ] {
        for (format, body) in away(records[..5].to_vec()) {
            let source = Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format);
            let error = fetch(&source).await.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::BadRecord);
            let held = if option == "out_of_school_code" { "codes of the code table" } else { "date-times" };
            let held = format!("these fields hold {held}: {field}; name the field");
            for says in ["no record in OutOfSchoolPupils has a", &held, option, "--ignore-field NAME"] {
                assert!(error.to_string().contains(says), "{says}: {error}");
            }
            assert!(fetch(&source.clone().with_ignored_fields([kept])).await.is_err());
            let items = fetch(&source.clone().with_ignored_fields([field.to_lowercase()])).await.unwrap();
            assert!(verdict(&items).undecided_fields().is_empty());
            let names = FieldNames::default().with_names(option, vec![field.to_owned()]).unwrap();
            let items = fetch(&source.with_field_names(names)).await.unwrap();
            let Some(Item::Record(Record::OutOfSchool(record))) = items.get(2) else { panic!("{items:?}") };
            assert!(record.last_updated.is_some() && record.code.is_some());
        }
        // Fewer show too little to stop.
        for (format, body) in away(records[..4].to_vec()) {
            let items = fetch(&Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format)).await.unwrap();
            assert_eq!(verdict(&items).undecided_fields(), [field]);
        }
    }
}

#[tokio::test]
async fn a_field_that_can_be_neither_stamp_nor_code_is_passed_over() {
    for field in [
        ("BornOn", "2014-02-03"),
        ("BornOn", "2014-02-03T00:00:00"),
        ("Lunch", "1900-01-01T12:30:00"),
        ("Flag", "1"),
        ("Year", "9"),
    ] {
        for (format, body) in away(IDS.map(|id| vec![("Id", id), field]).to_vec()) {
            let items = fetch(&Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format)).await.unwrap();
            assert!(verdict(&items).undecided_fields().is_empty(), "{field:?}");
        }
    }
    // One record that has a stamp shows that the known name is the one.
    let mut records = IDS.map(|id| vec![("Id", id), ("SavedAt", "2026-11-20T09:30:00")]).to_vec();
    records.push(vec![("LastUpdated", "2026-11-20T09:30:00")]);
    // Nor does a field that few records have.
    records.extend(IDS.map(|id| vec![("Id", id)]));
    records.push(vec![("Kind", "17")]);
    for (format, body) in away(records) {
        let items = fetch(&Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format)).await.unwrap();
        assert!(verdict(&items).undecided_fields().is_empty());
    }
}

#[tokio::test]
async fn the_unlisted_fields_of_a_fetch_count_over_all_its_parts() {
    let mut school = FakeSchool::new();
    for (id, day) in
        IDS.iter().zip(["2026-11-16", "2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20", "2026-11-16"])
    {
        school.out_of_school(id, "1", day, day).last_updated = Some("2026-11-15T09:30:00".parse().unwrap());
    }
    let simulator = Simulator::start(school.clone()).await.unwrap();
    simulator.rename_field("LastUpdated", "SavedAt");
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_slice_days(Some(1));
    assert!(fetch(&source).await.unwrap_err().to_string().contains("SavedAt"));
    // One record that lies in every part is one.
    let mut school = FakeSchool::new();
    school.out_of_school("60", "1", "2026-11-01", "2026-11-30").last_updated =
        Some("2026-11-15T09:30:00".parse().unwrap());
    simulator.change(|known| *known = school);
    let items = fetch(&source).await.unwrap();
    assert_eq!(verdict(&items).undecided_fields(), ["SavedAt"]);
    assert_eq!(verdict(&items).rows(FetchedKind::OutOfSchool), 6);
}

#[tokio::test]
async fn a_list_of_names_is_set_by_its_options_name() {
    let names = FieldNames::default();
    let names = names.with_names("out_of_school_from", vec![" AwayFrom ".to_owned(), "Since".to_owned()]).unwrap();
    assert_eq!(names.out_of_school_from, ["AwayFrom", "Since"]);
    for (list, given) in [("away_from", vec!["X".to_owned()]), ("code_id", vec![]), ("code_id", vec![" ".to_owned()])] {
        let error = names.clone().with_names(list, given).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Configuration);
        assert!(error.to_string().contains(list), "{error}");
    }
    assert!(names.with_names("x", vec!["X".to_owned()]).unwrap_err().to_string().contains("out_of_school_updated"));
}

#[tokio::test]
async fn a_period_without_a_flag_takes_it_from_a_name_that_is_one() {
    let period = |fields: &[(&'static str, &'static str)]| {
        [&[("Id", "1"), ("DateTime", "2026-11-20T08:40:00")][..], fields].concat()
    };
    for (fields, session) in [
        (&[("Name", "AM")][..], Some("AM")),
        (&[("Name", "Registration"), ("FriendlyName", "PM")], Some("PM")),
        (&[("Name", "AM"), ("Type", "PM")], Some("PM")),
        (&[("Name", "AM"), ("Type", "lesson")], Some("lesson")),
        (&[("Name", "am")], None),
        (&[("Name", "AM registration")], None),
    ] {
        let containers =
            ["RegistrationCodes", "RegistrationStatuses", "OutOfSchoolPupils"].map(|name| (name, Vec::new()));
        let periods = ("RegistrationPeriods", vec![period(fields)]);
        for (format, body) in in_both(&[&containers[..], &[periods]].concat()) {
            let source = Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format);
            let request = FetchRequest::new(window()).with_periods(true);
            let items = items(source.fetch(&request).await.unwrap()).await;
            let Some(Ok(Item::Record(Record::Period(period)))) = items.first() else { panic!("{items:?}") };
            assert_eq!(period.session.as_deref(), session, "{fields:?}");
        }
    }
}

/// The row of a reply with these fields, in both formats.
async fn rows_with(fields: &[(&str, &str)]) -> [Result<Registration, SourceError>; 2] {
    let given = |name: &str| fields.iter().any(|(field, _)| *field == name);
    let required = [("PupilId", "1"), ("Registered", "1"), ("RegistrationDateTime", "2026-11-20T08:40:00")];
    let required = required.into_iter().filter(|(name, _)| !given(name));
    let row = required.chain(fields.iter().copied()).collect();
    let containers =
        [("RegistrationCodes", vec![]), ("RegistrationStatuses", vec![row]), ("OutOfSchoolPupils", vec![])];
    let read = in_both(&containers).map(|(format, body)| async move {
        let items = fetch(&Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format)).await?;
        let Some(Item::Record(Record::Registration(row))) = items.into_iter().next() else { panic!("no row") };
        Ok(row)
    });
    let [xml, json] = read;
    [xml.await, json.await]
}

#[tokio::test]
async fn a_yes_or_no_is_0_1_true_or_false_in_any_case() {
    for (text, expected) in [("1", true), ("0", false), ("TRUE", true), ("False", false), (" true ", true)] {
        for row in rows_with(&[("Registered", text), ("Late", text)]).await {
            let row = row.unwrap();
            assert_eq!((row.registered, row.late, row.unreadable.len()), (expected, expected, 0), "{text}");
        }
    }
    for text in ["yes", "2", "-1", "00", "T", "1.0"] {
        for row in rows_with(&[("Registered", text)]).await {
            assert!(row.unwrap_err().to_string().contains("unreadable registered flag"), "{text}");
        }
        for row in rows_with(&[("Late", text)]).await {
            let row = row.unwrap();
            assert_eq!((row.late, row.unreadable.len()), (false, 1), "{text}");
        }
    }
}

#[tokio::test]
async fn negative_minutes_are_missing_and_unreadable_ones_are_noted() {
    for (text, minutes, noted) in
        [("0", Some(0), 0), ("15", Some(15), 0), ("-5", None, 0), ("99999999999", None, 1), ("5 min", None, 1)]
    {
        for row in rows_with(&[("MinutesLate", text)]).await {
            let row = row.unwrap();
            assert_eq!((row.minutes_late, row.unreadable.len()), (minutes, noted), "{text}");
        }
    }
}

#[tokio::test]
async fn numbers_and_truth_values_of_json_are_read_as_texts() {
    let row =
        r#""PupilId":4733683260,"Registered":1.0,"RegistrationDateTime":"2026-11-20T08:40:00","Code":17.0,"Late":true"#;
    let items = json(format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{{row}}}}}}}}}"#)).await.unwrap();
    let Some(Item::Record(Record::Registration(row))) = items.first() else { panic!("{items:?}") };
    assert_eq!((row.student.as_str(), row.registered, row.late), ("4733683260", true, true));
    assert_eq!(row.code.as_ref().unwrap().as_str(), "17");
}

#[tokio::test]
async fn a_missing_container_is_called_by_its_name_in_the_feed() {
    for missing in ["RegistrationCodes", "RegistrationStatuses", "OutOfSchoolPupils"] {
        let error = error_of(&answering(ok(document("").replace(missing, "Other")))).await;
        assert_eq!(error.kind(), SourceErrorKind::Incomplete);
        assert!(error.to_string().contains(&format!("has no {missing}")), "{error}");
    }
}

#[tokio::test]
async fn a_day_that_may_be_cut_is_called_by_its_container_number_and_setting() {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    simulator.cap_rows(100);
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_suspicious_rows(Some(100));
    let error = fetch(&source).await.unwrap_err().to_string();
    for says in ["exactly 100 rows", "RegistrationStatuses", "suspicious_rows", "may cut"] {
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn half_a_surrogate_pair_spoils_its_own_field_only() {
    let row = |field: &str| {
        format!(
            r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{"PupilId":"1","Registered":"1","RegistrationDateTime":"2026-11-20T08:40:00",{field}}}}}}}}}"#
        )
    };
    for (field, comment, noted) in [
        (r#""Reason":"\ud83d""#, None, 1),
        (r#""Reason":"late \uDE00 again""#, None, 1),
        (r#""Reason":"\ud83d\ude00 \\ud83d""#, Some("😀 \\ud83d"), 0),
        (r#""Other":"\ud83d","Reason":"x""#, Some("x"), 0),
        (r#""\ud83d":"x","Reason":"x""#, Some("x"), 0),
        (r#""Reason":"was \ufffd""#, Some("was \u{FFFD}"), 0),
    ] {
        let items = json(row(field)).await.unwrap();
        let Some(Item::Record(Record::Registration(row))) = items.first() else { panic!("{items:?}") };
        assert_eq!((row.comment.as_deref(), row.unreadable.len()), (comment, noted), "{field}");
    }
    for (name, what) in [("@Id", "id in its field Id"), ("Code", "code in its field Code"), ("PeriodId", "PeriodId")] {
        let error = json(row(&format!(r#""{name}":"7\ud83d""#))).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::BadRecord);
        assert!(error.to_string().contains(what), "{error}");
    }
    let error = json(row("\"x\":1").replace(r#""PupilId":"1""#, r#""PupilId":"\ud83d""#)).await.unwrap_err();
    assert!(error.to_string().contains("unreadable student in its field PupilId"), "{error}");
}

#[tokio::test]
async fn a_text_or_number_where_records_should_be_is_no_empty_school() {
    for body in [
        r##"{"iSAMS":{"#text":"Service unavailable"}}"##,
        r#"{"iSAMS":{"Status":"Service unavailable"}}"#,
        r##"{"iSAMS":{"RegistrationManager":{"#text":"down","RegistrationStatuses":null}}}"##,
        r#"{"iSAMS":{"RegistrationManager":{"Notice":"Service unavailable"}}}"#,
        r#"{"iSAMS":{"Version":"1.0","RegistrationManager":[{"Notice":{"Text":"Service unavailable"}}]}}"#,
        r#"{"iSAMS":{"RegistrationManager":{"Notice":"Service unavailable"},"Version":"1.0"}}"#,
    ] {
        let error = json(body).await.unwrap_err().to_string();
        assert!(error.contains("text where"), "{body}: {error}");
    }
    for body in [
        r#"{"iSAMS":{"@Version":"1"}}"#,
        r#"{"iSAMS":{"Version":"1","RegistrationStatuses":null}}"#,
        r#"{"iSAMS":{"Version":"1","RegistrationManager":null}}"#,
        r#"{"iSAMS":{"Version":"1","RegistrationManager":{"@Count":"0"}}}"#,
        r#"{"iSAMS":{"RegistrationManager":{"Notice":"x","RegistrationStatuses":null}}}"#,
    ] {
        assert!(json(body).await.is_ok(), "{body}");
    }
    for value in [r#""Service unavailable""#, "5", "0", "true", "false", r#"["x"]"#, "[[1]]"] {
        for body in [
            format!(r#"{{"iSAMS":{value}}}"#),
            format!(r#"{{"iSAMS":{{"RegistrationManager":{value}}}}}"#),
            format!(r#"{{"iSAMS":[{{"RegistrationManager":[{value}]}}]}}"#),
            format!(r#"{{"iSAMS":{{"RegistrationManager":{{"RegistrationStatuses":{value}}}}}}}"#),
        ] {
            let error = json(&body).await.unwrap_err().to_string();
            let is_row = value.starts_with('[') && body.contains("Statuses");
            assert!(error.contains(if is_row { "no field for its student" } else { "text where" }), "{body}: {error}");
        }
    }
    for text in ["Service unavailable", "<![CDATA[Service]]>", "&lt;Row/>"] {
        let whole = document("");
        for body in [
            whole.replace("<iSAMS>", &format!("<iSAMS>{text}")),
            whole.replace("<RegistrationCodes", &format!("{text}<RegistrationCodes")),
            format!("<iSAMS>{text}</iSAMS>"),
        ] {
            let error = error_of(&answering(ok(&body))).await;
            assert!(error.to_string().contains("text where iSAMS sends records"), "{body}: {error}");
        }
    }
    // What stands beside the records is none of ours.
    only_row(status("").replace("<iSAMS>", "<iSAMS><Version>1.0</Version>\n")).await;
    assert!(json(r#"{"iSAMS":{"Version":"1.0","RegistrationManager":""},"took":5}"#).await.is_ok());
}

#[tokio::test]
async fn a_message_in_the_midst_of_a_record_is_an_error() {
    let said = "<Message><Title>Oops</Title><Description>Nothing was read.</Description></Message>";
    for inner in [
        said.to_owned(),
        format!("<Reason>{said}</Reason>"),
        format!("<Reason>x<A><B>{said}</B></A></Reason>"),
        format!("<Reason Id=\"{}\">{said}</Reason>", "x"),
    ] {
        for body in [status(&inner), document(&format!("<Row>{inner}</Row>"))] {
            let error = error_of(&answering(ok(body))).await;
            assert!(error.to_string().contains("Oops: Nothing was read."), "{inner}: {error}");
        }
    }
    only_row(status("<Message/><Reason><Message> </Message></Reason>")).await;

    let row = r#""PupilId":"1","Registered":"1","RegistrationDateTime":"2026-11-20T08:40:00""#;
    let said = r#"{"Title":"Oops","Description":"Nothing was read."}"#;
    for inner in [
        format!(r#"{row},"Message":{said}"#),
        format!(r#""message":{said}"#),
        format!(r#"{row},"Reason":{{"Message":{said}}}"#),
        format!(r#"{row},"Reason":[{{"A":{{"Message":{said}}}}}]"#),
        format!(r#"{row},"Message":"Oops: Nothing was read.""#),
    ] {
        let error = json(format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{{inner}}}}}}}}}"#)).await.unwrap_err();
        assert!(error.to_string().contains("Oops: Nothing was read."), "{inner}: {error}");
    }
    let nothing = format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{{row},"Message":null}}}}}}}}"#);
    assert_eq!(json(nothing).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_name_twice_in_one_object_is_refused() {
    let row = r#""PupilId":"1","Registered":"1","RegistrationDateTime":"2026-11-20T08:40:00""#;
    for (body, name) in [
        (format!(r#"{{"iSAMS":{{}},"iSAMS":{{"RegistrationStatuses":{{"Row":{{{row}}}}}}}}}"#), "iSAMS"),
        (r#"{"iSAMS":{"RegistrationStatuses":null,"RegistrationStatuses":null}}"#.to_owned(), "RegistrationStatuses"),
        (format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{{row}}},"Row":{{{row}}}}}}}}}"#), "Row"),
        (format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":[{{{row}}},{{{row},"PupilId":"2"}}]}}}}}}"#), "PupilId"),
        (format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{{row},"Code":{{"a":"1","a":"2"}}}}}}}}}}"#), "a"),
        // Names are found in any case, and attributes count like elements.
        (r#"{"iSAMS":{"RegistrationStatuses":null,"registrationstatuses":null}}"#.to_owned(), "registrationstatuses"),
        (format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{{row}}},"row":{{{row}}}}}}}}}"#), "row"),
        (format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{{row},"Code":"17","code":"18"}}}}}}}}"#), "code"),
        (format!(r#"{{"iSAMS":{{"RegistrationStatuses":{{"Row":{{"@Id":"1",{row},"Id":"2"}}}}}}}}"#), "Id"),
    ] {
        let error = json(&body).await.unwrap_err();
        assert!(error.to_string().contains(&format!("holds {name} twice")), "{body}: {error}");
    }
    let error = error_of(&answering(ok(document("<Row Id=\"1\" Id=\"2\"/>")))).await;
    assert!(error.to_string().contains("occurs twice"), "{error}");
}

#[tokio::test]
async fn an_id_that_is_too_long_is_an_error_that_names_its_field() {
    let (longest, longer) = ("7".repeat(64), "7".repeat(65));
    for field in ["PupilId", "Id", "PeriodId", "Code"] {
        for row in rows_with(&[(field, longest.as_str())]).await {
            assert!(row.unwrap().unreadable.is_empty());
        }
        for row in rows_with(&[(field, longer.as_str())]).await {
            let error = row.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::BadRecord);
            assert!(error.to_string().contains(&format!("in its field {field}")), "{error}");
        }
    }
    for (format, body) in in_both(&[("RegistrationCodes", vec![vec![("Id", &*longer), ("Absence", "1")]])]) {
        let error = fetch(&Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format)).await.unwrap_err();
        assert!(error.to_string().contains("in its field Id"), "{error}");
    }
}

#[tokio::test]
async fn a_text_that_is_too_long_is_cut_and_noted() {
    let (longest, longer) = ("é".repeat(250), "é".repeat(900_000 / 2));
    for row in rows_with(&[("Reason", longest.as_str())]).await {
        let row = row.unwrap();
        assert_eq!((row.comment.as_deref(), row.unreadable.len()), (Some(&*longest), 0));
    }
    for row in rows_with(&[("Reason", longer.as_str())]).await {
        let row = row.unwrap();
        assert_eq!((row.comment.as_deref(), row.unreadable.len()), (Some(&*longest), 1));
    }
    let code = vec![("Id", "17"), ("Code", "ABCDEFGHIJKLMNOPQ"), ("Name", &*longer), ("Absence", "1")];
    let containers = [
        ("RegistrationCodes", vec![code]),
        ("RegistrationStatuses", vec![]),
        ("OutOfSchoolPupils", vec![vec![("PupilId", "1"), ("StartDate", "2026-11-20"), ("Notes", &*longer)]]),
    ];
    for (format, body) in in_both(&containers) {
        let items = fetch(&Batch::new(&answering(ok(body)), KEY).unwrap().with_format(format)).await.unwrap();
        let [Item::Record(Record::Code(code)), Item::Record(Record::OutOfSchool(record)), Item::Complete(_)] =
            items.as_slice()
        else {
            panic!("{} items", items.len())
        };
        assert_eq!((code.letter.as_ref(), code.name.as_ref().unwrap().chars().count()), (None, 100));
        assert_eq!(code.unreadable.len(), 2);
        assert_eq!((record.reason.as_deref(), record.unreadable.len()), (Some(&*longest), 1));
    }
}

#[tokio::test]
async fn the_texts_of_all_records_of_a_fetch_have_a_ceiling() {
    let reason = "x".repeat(250);
    // Such a record is held as it was read and as it is resolved.
    let each = 250 + 4 * size_of::<rollmark::model::OutOfSchool>() as u64;
    let row = |id: usize| {
        format!(
            "<Row Id=\"{id}\"><PupilId>{id}</PupilId><StartDate>2026-11-20</StartDate><Reason>{reason}</Reason></Row>"
        )
    };
    // Small replies and one that is read as it arrives.
    for rows in [400, 6_000] {
        let body = document("").replace(
            "<OutOfSchoolPupils />",
            &format!("<OutOfSchoolPupils>{}</OutOfSchoolPupils>", (0..rows).map(row).collect::<String>()),
        );
        let source = Batch::new(&answering(ok(body)), KEY).unwrap();
        assert!(fetch(&source.clone().with_max_held_bytes(rows as u64 * (each + 8))).await.is_ok());
        let error = fetch(&source.with_max_held_bytes(rows as u64 * each)).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::TooLarge);
        assert!(error.to_string().contains("max_held_bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_reply_that_is_asked_for_in_parts_counts_once_toward_the_ceiling() {
    let mut school = FakeSchool::new();
    for (number, day) in (16..=17).flat_map(|day| (100..250).map(move |number| (number, day))) {
        school.registration(&format!("{day}{number}"), &number.to_string(), &format!("2026-11-{day}T08:40:00"));
    }
    let simulator = Simulator::start(school).await.unwrap();
    simulator.cap_rows(200);
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_suspicious_rows(Some(200));
    // Each of the 300 rows has an id of 5 and a student of 3 bytes.
    assert!(fetch(&source.clone().with_max_held_bytes(2_400)).await.is_ok());
    assert_eq!(fetch(&source.with_max_held_bytes(2_399)).await.unwrap_err().kind(), SourceErrorKind::TooLarge);
}

#[tokio::test]
async fn out_of_school_records_without_number_are_refused() {
    let reply = |rows: usize| {
        let row = |id: usize| format!("<R Id=\"{id}\" PupilId=\"{id}\" From=\"2026-11-20\"/>");
        document("").replace(
            "<OutOfSchoolPupils />",
            &format!("<OutOfSchoolPupils>{}</OutOfSchoolPupils>", (0..rows).map(row).collect::<String>()),
        )
    };
    // 185 days with 5 records each; on a single day everybody can be away.
    for (look_back, most) in [(180, 1_200), (0, 1_200), (300, 1_525)] {
        let source = |rows| Batch::new(&answering(ok(reply(rows))), KEY).unwrap().with_look_back_days(look_back);
        let source = |rows| source(rows).with_max_rows_per_day(600);
        assert!(fetch(&source(most)).await.is_ok());
        let error = fetch(&source(most + 1)).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::TooLarge);
        assert!(error.to_string().contains(&format!("{most} out-of-school records")), "{error}");
    }
}
