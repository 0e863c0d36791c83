//! The REST way in: what it gives, what it can't, and how it fails.

use crate::common::source::{Item, items};
use crate::common::tenant::{answering, answering_by_path, ok, with_status};
use futures::StreamExt;
use rollmark::isams::Rest;
use rollmark::model::{Decision, Record, Registration, Retry, Status, StudentId};
use rollmark::rules::{Rules, Window};
use rollmark::source::{AttendanceSource, FetchRequest, FetchedKind, SourceError, SourceErrorKind};
use rollmark::store::{HistoryQuery, MarkStore, MemoryStore};
use rollmark::sync::{AttendanceSync, SyncErrorKind, SyncRequest};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::{Fault, Simulator};

const SECRET: &str = "s&cr=t +%/ü";

fn today() -> Window {
    Window::day("2026-11-20".parse().unwrap())
}

fn rest(simulator: &Simulator) -> Rest {
    Rest::new(&simulator.url(), simulator.client_id(), simulator.client_secret()).unwrap()
}

async fn fetch(source: &Rest) -> Result<Vec<Item>, SourceError> {
    items(source.fetch(&FetchRequest::new(today())).await?).await.into_iter().collect()
}

fn rows(items: Vec<Item>) -> Vec<Registration> {
    items
        .into_iter()
        .filter_map(|item| match item {
            Item::Record(Record::Registration(row)) => Some(row),
            _ => None,
        })
        .collect()
}

/// A tenant whose client's secret has characters that a form has to encode.
async fn demo() -> Simulator {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    simulator.set_client("client & co", SECRET);
    simulator
}

#[tokio::test]
async fn todays_registers_arrive_whole_with_isamss_own_verdict() {
    let simulator = demo().await;
    let items = fetch(&rest(&simulator)).await.unwrap();
    let Some(Item::Complete(verdict)) = items.last() else { panic!("no verdict") };
    assert!(verdict.covers(FetchedKind::Registrations, today()));
    assert_eq!(
        [FetchedKind::Codes, FetchedKind::Periods, FetchedKind::Registrations].map(|kind| verdict.rows(kind)),
        [4, 4, 160]
    );
    let rows = rows(items);
    assert!(rows.iter().all(|row| row.verdict.is_some() && row.last_updated.is_none() && row.id.is_none()));
}

#[tokio::test]
async fn a_sync_narrows_its_window_to_today_and_says_whose_verdict_it_is() {
    let simulator = demo().await;
    let store = MemoryStore::new();
    let sync =
        AttendanceSync::new(rest(&simulator), store.clone(), "school", Rules::new("Europe/London".parse().unwrap()));
    simulator.change(|school| school.demo_changes("2026-11-20".parse().unwrap()));
    let report = sync.run(SyncRequest::overnight("2026-11-20".parse().unwrap())).await.unwrap();
    assert_eq!(report.window.from, report.window.to);
    assert!(report.advice.iter().any(|advice| advice.contains("today only")), "{:?}", report.advice);
    let scope = rollmark::rules::Scope::all(today());
    let history = store.history(&"school".into(), &HistoryQuery::new(scope)).await.unwrap();
    let marks = history.into_iter().filter_map(|change| change.after);
    let away = marks.into_iter().find(|mark| mark.status == Status::Absent).unwrap();
    let Decision { judged_by_source, .. } = away.decision;
    assert!(judged_by_source);
    let outside = SyncRequest::targeted(Window::day("2026-11-19".parse().unwrap()));
    assert_eq!(sync.run(outside).await.unwrap_err().kind(), SyncErrorKind::NotToday);
}

#[tokio::test]
async fn more_than_today_is_refused_rather_than_faked() {
    let simulator = demo().await;
    let wide = Window::between("2026-11-19".parse().unwrap(), "2026-11-20".parse().unwrap()).unwrap();
    let items: Vec<_> = rest(&simulator).fetch(&FetchRequest::new(wide)).await.unwrap().collect().await;
    assert!(items[0].as_ref().unwrap_err().to_string().contains("today only"));

    for other in ["2026-11-18", "2026-11-19"] {
        simulator.set_today(other.parse().unwrap());
        let error = fetch(&rest(&simulator)).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Incomplete);
        assert!(
            error
                .to_string()
                .contains(&format!("{other}, not of 2026-11-20; its REST interface only answers for its own today")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn today_is_the_schools_however_its_periods_are_written() {
    for (zone, written, is_today) in [
        ("Asia/Hong_Kong", "2026-11-19T23:50:00Z", true),
        ("Pacific/Auckland", "2026-11-19T19:40:00Z", true),
        ("Pacific/Auckland", "2026-11-19T07:40:00-12:00", true),
        ("America/Los_Angeles", "2026-11-21T06:40:00+14:00", true),
        ("America/Los_Angeles", "2026-11-20T00:40:00Z", false),
        ("Pacific/Auckland", "2026-11-20T19:40:00Z", false),
    ] {
        let periods = format!(r#"{{"registrationPeriods":[{{"id":5,"time":"{written}"}}]}}"#);
        let url = tenant(move |path| match path {
            "/api/registration/periods" => periods.clone(),
            "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
            _ => r#"[{"schoolId":"1","isRegistered":1,"isPresent":true,"isOutOfSchool":false}]"#.to_owned(),
        });
        let sync = AttendanceSync::new(source(&url), MemoryStore::new(), "school", Rules::new(zone.parse().unwrap()));
        let report = sync.run(SyncRequest::overnight("2026-11-20".parse().unwrap())).await;
        match is_today {
            true => assert_eq!(report.unwrap().marks.added, 1, "{zone} {written}"),
            false => assert!(report.unwrap_err().to_string().contains("not of 2026-11-20"), "{zone} {written}"),
        }
    }
}

#[tokio::test]
async fn every_page_of_a_register_and_every_record_of_a_student_is_delivered() {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    school.period("1", "2026-11-20T08:40:00", Some("am"));
    for student in 0..250 {
        school.registration("", &student.to_string(), "2026-11-20T08:40:00").in_period("1").present();
    }
    school.registration("", "7", "2026-11-20T08:40:00").in_period("1").absent("9");
    let simulator = Simulator::start(school).await.unwrap();
    let rows = rows(fetch(&rest(&simulator)).await.unwrap());
    assert_eq!(rows.len(), 251);
    assert_eq!(rows.iter().filter(|row| row.student == StudentId::new("7")).count(), 2);
}

#[tokio::test]
async fn one_token_serves_all_registers_and_a_refused_one_is_renewed_once() {
    let simulator = demo().await;
    let source = rest(&simulator);
    let request = FetchRequest::new(today());
    for _ in 0..2 {
        source.fetch(&request).await.unwrap().collect::<Vec<_>>().await;
    }
    assert_eq!(request.counters().tally().requests, 13, "a token, then codes, periods and four registers twice");
    simulator.revoke_token();
    assert_eq!(rows(fetch(&source).await.unwrap()).len(), 160);
    assert_eq!(simulator.valid_tokens(), 1);
    source.close().await.unwrap();
    assert_eq!(simulator.valid_tokens(), 0, "an explicit close gives the token back");
    source.close().await.unwrap();
    assert_eq!(rows(fetch(&source).await.unwrap()).len(), 160, "a closed source opens again");
}

#[tokio::test]
async fn what_can_pass_is_tried_again() {
    let simulator = demo().await;
    for fault in [
        Fault::Status(503, None),
        Fault::Status(429, Some(0)),
        Fault::Status(408, None),
        Fault::Reset,
        Fault::HalfDocument,
    ] {
        let source = rest(&simulator);
        fetch(&source).await.unwrap();
        simulator.fail_next(fault);
        assert_eq!(rows(fetch(&source).await.unwrap()).len(), 160, "{fault:?}");
    }
}

#[tokio::test]
async fn each_failure_has_its_own_error_without_a_secret() {
    let simulator = demo().await;
    let source = rest(&simulator);
    for (fault, kind, says) in [
        (Fault::LoginPage, SourceErrorKind::BadReply, "HTML page"),
        (Fault::ErrorObject, SourceErrorKind::Server, "The registration period has been archived."),
        (Fault::EmptyBody, SourceErrorKind::BadReply, "empty"),
        (Fault::NotXml, SourceErrorKind::BadReply, "not well-formed JSON"),
        (Fault::Status(404, None), SourceErrorKind::BadReply, "no iSAMS interface"),
        (Fault::Status(403, None), SourceErrorKind::NotAllowed, "refuses"),
        (Fault::Status(500, None), SourceErrorKind::Server, "did not say which"),
    ] {
        fetch(&source).await.unwrap();
        simulator.fail_next(fault);
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("token-"), "{error}");
    }
    let wrong = Rest::new(&simulator.url(), simulator.client_id(), "wrong").unwrap();
    let error = fetch(&wrong).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Credentials);
    assert!(!format!("{error} {wrong:?} {wrong}").contains("wrong"), "{error}");
    assert!(!format!("{source:?}").contains(SECRET));
}

/// A tenant that gives any token, and answers everything else by path.
fn tenant(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    answering_by_path(move |path| match path {
        "/auth/connect/token" => ok(r#"{"access_token":"Token-4711","token_type":"Bearer","expires_in":"3600"}"#),
        path => ok(answer(path)),
    })
}

fn source(url: &str) -> Rest {
    Rest::new(url, "id", SECRET).unwrap()
}

const PERIODS: &str =
    r#"{"registrationPeriods":[{"id":5,"time":"2026-11-20T08:40:00+00:00","registrationType":"AM"}]}"#;

#[tokio::test]
async fn a_register_is_read_through_its_quirks() {
    let row = r#"{"schoolId":4733683260,"isRegistered":1,"isPresent":true,"isLate":true,"isOutOfSchool":false,
        "numberOfMinutesLate":-3,"absenceCodeId":null,"registrationComment":"  "}"#;
    for list in [
        format!("[{row}]"),
        format!(r#"{{"anyName":[{row}],"count":1,"totalPages":1}}"#),
        format!(r#"{{"divisions":[{{"id":1}}],"notes":null,"anyName":[{row}]}}"#),
    ] {
        let url = tenant(move |path| match path {
            "/api/registration/absencecodes" => r#"{"absenceCodes":null}"#.to_owned(),
            "/api/registration/periods" => PERIODS.to_owned(),
            _ => list.clone(),
        });
        let rows = rows(fetch(&source(&url)).await.unwrap());
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].student, StudentId::new("4733683260"));
        assert_eq!(rows[0].period, Some("5".into()));
        assert!(rows[0].registered && rows[0].late && rows[0].minutes_late.is_none() && rows[0].comment.is_none());
    }
}

#[tokio::test]
async fn a_placeholder_date_or_a_time_of_day_is_of_today() {
    for time in [
        r#""time":"1900-01-01T08:40:00Z""#,
        r#""time":"08:40""#,
        r#""time":null,"start":"2026-11-20T08:40:00+00:00""#,
        r#""time":"0001-01-01T00:00:00Z","start":"2026-11-20T08:40:00+00:00""#,
        r#""time":"08:40:00","start":"2026-11-20T08:30:00+00:00""#,
        r#""time":"1900-01-01T08:40:00","start":"2026-11-20T08:30:00+00:00""#,
    ] {
        let periods = format!(r#"{{"registrationPeriods":[{{"id":5,{time}}}]}}"#);
        let url = tenant(move |path| match path {
            "/api/registration/periods" => periods.clone(),
            "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
            _ => r#"[{"schoolId":"1","isRegistered":0,"isPresent":false,"isOutOfSchool":false}]"#.to_owned(),
        });
        let rows = rows(fetch(&source(&url)).await.unwrap());
        let at = rows[0].at.school_time(&"Europe/London".parse().unwrap());
        assert_eq!(at.to_string(), "2026-11-20 08:40:00", "{time}");
    }
}

#[tokio::test]
async fn a_reply_that_is_not_what_was_asked_for_is_named() {
    let register = |reply: &'static str| {
        tenant(move |path| match path {
            "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
            "/api/registration/periods" => PERIODS.to_owned(),
            _ => reply.to_owned(),
        })
    };
    for (reply, says) in [
        (r#"[{"name":"x","isPresent":true}]"#, "its fields are: "),
        (
            r#"[{"schoolId":"1","isPresent":"maybe","isRegistered":1,"isOutOfSchool":false}]"#,
            "row 1 on page 1 of register/5 has an unreadable field isPresent",
        ),
        (r#"{"page":1,"totalPages":3,"rows":[]}"#, "page 2 of register/5 was asked for, and page 1 came"),
        (r#"{"totalPages":1000000,"rows":[]}"#, "has 1000000 pages, and page 2 holds no record"),
        (
            r#"{"totalCount":2,"totalPages":1,"rows":[{"schoolId":"1","isPresent":true,"isRegistered":1,"isOutOfSchool":false}]}"#,
            "counts 2 records of register/5 and sent 1",
        ),
        (r#"{"page":1,"totalCount":2,"totalPages":1,"rows":[]}"#, "counts 2 records of register/5 and sent 0"),
        (r#"{"one":[1],"two":[2]}"#, "no list"),
        (r#"{"totalPages":1,"count":1,"rows":[]}"#, "counts 1 records of register/5 and sent 0"),
        (r#""text""#, "not from iSAMS"),
        ("[[[[", "middle of the document"),
    ] {
        let error = fetch(&source(&register(reply))).await.unwrap_err();
        assert!(error.to_string().contains(says), "{reply}: {error}");
    }
    for periods in [r#"{"message":null}"#, r#"{"errors":[]}"#] {
        let url = tenant(move |path| match path {
            "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
            _ => periods.to_owned(),
        });
        let error = fetch(&source(&url)).await.unwrap_err();
        assert!(error.to_string().contains("no list"), "{error}");
    }
    let hostile = tenant(|path| match path {
        "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
        "/api/registration/periods" => PERIODS.replace(":5,", r#":"5\u001b[2J\nerror: all is well","#),
        _ => "[]".to_owned(),
    });
    let error = fetch(&source(&hostile)).await.unwrap_err();
    assert!(error.to_string().contains("unreadable field id"), "{error}");
    let fields: String = (0..500).map(|number| format!(r#""f{number}":1,"#)).collect();
    let many = register(format!(r#"[{{{fields}"x":1}}]"#).leak());
    let error = fetch(&source(&many)).await.unwrap_err();
    assert!(error.to_string().contains("and 461 more"), "{error}");
    let deep = Box::leak("[".repeat(100_000).into_boxed_str());
    let error = fetch(&source(&register(deep))).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::BadReply, "{error}");
    let url = answering(with_status("200 OK", "{}"));
    assert_eq!(fetch(&source(&url)).await.unwrap_err().kind(), SourceErrorKind::BadReply);
}

/// A tenant whose register of 152 rows comes in pages of 100, each with what `about` says of it.
fn paging(about: impl Fn(u64) -> String + Send + Sync + 'static) -> String {
    crate::common::tenant::answering_to(move |request| {
        let row = |number: u64| {
            format!(r#"{{"schoolId":"{number}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}"#)
        };
        let page = if request.contains("page=2") { 2 } else { 1 };
        let rows: Vec<String> = (1..=152).skip(100 * (page as usize - 1)).take(100).map(row).collect();
        match request {
            _ if request.contains("/connect/token") => ok(r#"{"access_token":"Token-4711","expires_in":3600}"#),
            _ if request.contains("/absencecodes") => ok(r#"{"absenceCodes":[]}"#),
            _ if request.contains("/periods") => ok(PERIODS),
            _ => ok(format!(r#"{{"rows":[{}]{}}}"#, rows.join(","), about(page))),
        }
    })
}

#[tokio::test]
async fn every_page_is_read_however_its_numbers_are_written_and_without_them() {
    for about in [
        |page: u64| format!(r#","page":{page},"pageSize":100,"totalCount":152,"totalPages":2"#),
        |page: u64| format!(r#","page":"{page}","totalCount":"152","totalPages":"2""#),
        |page: u64| format!(r#","page":{page}.0,"totalCount":152.0,"totalPages":2.0"#),
        |_: u64| r#","pageSize":100,"totalCount":152"#.to_owned(),
        |_: u64| r#","totalCount":152,"totalPages":null"#.to_owned(),
        |_: u64| r#","page":null,"totalCount":null,"totalPages":null"#.to_owned(),
        |_: u64| String::new(),
        // Counted from 0, of this page only, or under other names.
        |page: u64| format!(r#","page":{},"totalCount":152,"totalPages":2"#, page - 1),
        |page: u64| format!(r#","count":{0},"totalCount":{0}"#, if page == 1 { 100 } else { 52 }),
        |page: u64| format!(r#","Page":{page},"TotalCount":152,"TotalPages":2"#),
        |_: u64| r#","count":152"#.to_owned(),
        |page: u64| format!(r#","count":{}"#, if page == 1 { 100 } else { 52 }),
    ] {
        let read = rows(fetch(&source(&paging(about))).await.unwrap());
        assert_eq!(read.len(), 152, "{}", about(1));
    }
}

#[tokio::test]
async fn a_list_without_pages_is_read_once_and_a_page_that_comes_again_is_refused() {
    let row =
        |number: u64| format!(r#"{{"schoolId":"{number}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}"#);
    for (count, about, is_read) in [
        (100, "", true),
        (100, r#","totalCount":100"#, true),
        (150, "", true),
        (150, r#","totalCount":150"#, true),
        (100, r#","totalPages":2"#, false),
    ] {
        let list: Vec<String> = (0..count).map(row).collect();
        let register = format!(r#"{{"rows":[{}]{about}}}"#, list.join(","));
        let url = tenant(move |path| match path {
            "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
            "/api/registration/periods" => PERIODS.to_owned(),
            _ => register.clone(),
        });
        match (fetch(&source(&url)).await, is_read) {
            (read, true) => assert_eq!(rows(read.unwrap()).len() as u64, count, "{about}"),
            (read, false) => assert!(read.unwrap_err().to_string().contains("page 2 of register/5 is page 1 again")),
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_decides_the_encoding() {
    let register =
        r#"[{"schoolId":"1","isRegistered":1,"isPresent":true,"isOutOfSchool":false,"registrationComment":"é"}]"#;
    let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xFEFF).chain(register.encode_utf16()).flat_map(order).collect()
    };
    for body in [format!("\u{FEFF}{register}").into_bytes(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
        let url = answering_by_path(move |path| match path {
            "/auth/connect/token" => ok(r#"{"access_token":"Token-4711","expires_in":3600}"#),
            "/api/registration/absencecodes" => ok(r#"{"absenceCodes":[]}"#),
            "/api/registration/periods" => ok(PERIODS),
            _ => ok(&body),
        });
        assert_eq!(rows(fetch(&source(&url)).await.unwrap())[0].comment.as_deref(), Some("é"));
    }
}

#[tokio::test]
async fn isamss_own_words_are_quoted() {
    let url = answering_by_path(|path| match path {
        "/auth/connect/token" => ok(r#"{"access_token":"Token-4711","expires_in":3600}"#),
        "/api/registration/absencecodes" => {
            with_status("403 Forbidden", r#"{"Message":"The scope of TOKEN-4711 is not granted."}"#)
        }
        _ => ok("{}"),
    });
    let error = fetch(&source(&url)).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::NotAllowed);
    assert!(error.to_string().contains("The scope of … is not granted."), "{error}");
}

/// A tenant of which one path answers with this; the others have empty lists, and one period.
fn with_reply(path: &'static str, reply: impl Into<String>) -> String {
    let reply = reply.into();
    tenant(move |asked| match asked {
        asked if asked == path => reply.clone(),
        "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
        "/api/registration/periods" => PERIODS.to_owned(),
        _ => "[]".to_owned(),
    })
}

const LISTS: [(&str, &str); 3] = [
    ("/api/registration/absencecodes", "absenceCodes"),
    ("/api/registration/periods", "registrationPeriods"),
    ("/api/registration/register/5", "registrationStatuses"),
];

#[tokio::test]
async fn an_error_object_is_an_error_whatever_its_status_and_whatever_list_is_beside_it() {
    for (path, list) in LISTS {
        for reply in [
            r#"{"message":"The registration period has been archived.","errors":[]}"#.to_owned(),
            r#"{"Message":" The registration period\nhas been archived. ","data":[]}"#.to_owned(),
            r#"{"success":false,"message":"The registration period has been archived.","data":[]}"#.to_owned(),
            format!(r#"{{"message":"The registration period has been archived.","{list}":[]}}"#),
            format!(
                r#"{{"message":"The registration period has been archived.","{list}":[],"count":0,"page":1,"totalPages":1}}"#
            ),
            format!(
                r#"{{"message":"The registration period has been archived.","{list}":[{{"id":7,"schoolId":"1"}}]}}"#
            ),
            r#"{"errors":["The registration period has been archived."]}"#.to_owned(),
            r#"{"error":"The registration period has been archived."}"#.to_owned(),
            r#"{"error":{"code":7,"message":"The registration period has been archived."},"data":[]}"#.to_owned(),
            r#"{"title":"The registration period has been archived.","status":403,"data":[]}"#.to_owned(),
            r#"{"type":"about:blank","detail":"The registration period has been archived."}"#.to_owned(),
            format!(r#"{{"title":"The registration period has been archived.","{list}":[]}}"#),
        ] {
            let error = fetch(&source(&with_reply(path, &*reply))).await.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Server, "{reply}: {error}");
            assert!(error.to_string().contains("The registration period has been archived."), "{reply}: {error}");
        }
        for reply in [
            r#"{"success":false,"data":[]}"#.to_owned(),
            format!(r#"{{"success":false,"{list}":[],"count":0,"totalPages":1}}"#),
            r#"{"status":"403.0","data":[]}"#.to_owned(),
        ] {
            let error = fetch(&source(&with_reply(path, &*reply))).await.unwrap_err();
            assert!(error.to_string().contains("iSAMS answered with an error"), "{reply}: {error}");
        }
        for reply in [r#"{"errors":[]}"#, r#"{"message":null,"errors":[],"count":0}"#, "{}"] {
            let error = fetch(&source(&with_reply(path, reply))).await.unwrap_err();
            assert!(error.to_string().contains("no list of records"), "{reply}: {error}");
        }
    }
}

#[tokio::test]
async fn a_busy_server_that_says_so_with_status_200_is_asked_again() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let url = tenant(move |path| match path {
        "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
        "/api/registration/periods" => PERIODS.to_owned(),
        _ if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => {
            r#"{"message":"Transaction was deadlocked. Rerun the transaction."}"#.to_owned()
        }
        _ => "[]".to_owned(),
    });
    assert!(fetch(&source(&url)).await.is_ok());
}

#[tokio::test]
async fn an_empty_register_that_says_so_is_one() {
    let (path, _) = LISTS[2];
    for reply in [
        "[]",
        r#"{"registrationStatuses":[]}"#,
        r#"{"registrationStatuses":[],"count":0,"page":1,"pageSize":100,"totalCount":0,"totalPages":0}"#,
        r#"{"rows":[],"count":0,"page":1,"pageSize":100,"totalCount":0,"totalPages":1}"#,
        r#"{"rows":[],"Count":0.0,"message":null,"errors":[],"success":true,"status":200}"#,
    ] {
        assert!(rows(fetch(&source(&with_reply(path, reply))).await.unwrap()).is_empty(), "{reply}");
    }
}

#[tokio::test]
async fn a_list_that_counts_more_records_than_it_holds_is_incomplete() {
    let row =
        |number: u64| format!(r#"{{"schoolId":"{number}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}"#);
    let five = (0..5).map(row).collect::<Vec<_>>().join(",");
    for (path, list) in [
        (LISTS[0].0, r#"{"absenceCodes":[],"count":8}"#.to_owned()),
        (LISTS[1].0, r#"{"registrationPeriods":[],"count":8}"#.to_owned()),
        (LISTS[1].0, r#"{"registrationPeriods":null,"count":"8"}"#.to_owned()),
        (LISTS[2].0, r#"{"x":[],"count":8}"#.to_owned()),
        (LISTS[2].0, format!(r#"{{"count":8,"x":[{five}]}}"#)),
        (LISTS[2].0, format!(r#"{{"count":8,"totalPages":1,"x":[{five}]}}"#)),
    ] {
        let error = fetch(&source(&with_reply(path, &*list))).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Incomplete, "{list}: {error}");
        assert!(error.to_string().contains("counts 8 records of"), "{list}: {error}");
        assert_eq!(error.retry(), Retry::Now, "{list}: {error}");
    }
    let whole = format!(r#"{{"count":5,"x":[{five}]}}"#);
    assert_eq!(rows(fetch(&source(&with_reply(LISTS[2].0, whole))).await.unwrap()).len(), 5);
}

#[tokio::test]
async fn no_error_names_what_was_sent_in_confidence() {
    let secret = "correct-horse";
    let hidden = |path: &'static str, reply: String| async move {
        let url = tenant(move |asked| match asked {
            asked if asked == path => reply.clone(),
            "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
            "/api/registration/periods" => {
                format!(r#"{{"registrationPeriods":[{{"id":"{secret}-Token-4711","time":"08:40"}}]}}"#)
            }
            _ => r#"{"count":8,"rows":[]}"#.to_owned(),
        });
        let error = fetch(&Rest::new(&url, "id", secret).unwrap()).await.unwrap_err().to_string();
        assert!(!error.contains(secret) && !error.contains("4711"), "{error}");
        error
    };
    let register = "/api/registration/register/correct-horse-Token-4711";
    for (reply, says) in [
        (r#"{"count":8,"rows":[]}"#.to_owned(), "counts 8 records of register/…-…"),
        (r#"{"page":7,"rows":[]}"#.to_owned(), "page 1 of register/…-… was asked for"),
        ("{}".to_owned(), "the reply for register/…-… holds no list"),
        (format!(r#"{{"{secret}":1,"{secret}":2}}"#), "holds … twice"),
        (format!(r#"[{{"{secret}":1,"Token-4711":2}}]"#), "its fields are: …, …"),
    ] {
        let error = hidden(register, reply).await;
        assert!(error.contains(says), "{says}: {error}");
    }
    // What looks like a key of any kind is not shown either.
    let twice = r#"[{"1b2c3d4e-0000-4000-8000":1,"1b2c3d4e-0000-4000-8000":2}]"#;
    let error = hidden(register, twice.to_owned()).await;
    assert!(error.contains("(a name that is not shown) twice"), "{error}");
}

#[tokio::test]
async fn an_archived_register_removes_no_marks() {
    let answers = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_archived = std::sync::Arc::clone(&answers);
    let url = tenant(move |path| match path {
        "/api/registration/absencecodes" => r#"{"absenceCodes":[]}"#.to_owned(),
        "/api/registration/periods" => {
            r#"{"registrationPeriods":[{"id":5,"time":"08:40"},{"id":6,"time":"08:40"}]}"#.to_owned()
        }
        "/api/registration/register/6" if is_archived.load(std::sync::atomic::Ordering::Relaxed) => {
            r#"{"message":"The registration period has been archived.","errors":[]}"#.to_owned()
        }
        register => {
            let row = |number: u32| {
                let student = format!("{}{number}", &register[register.len() - 1..]);
                format!(r#"{{"schoolId":"{student}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}"#)
            };
            format!("[{}]", (0..8).map(row).collect::<Vec<_>>().join(","))
        }
    });
    let store = MemoryStore::new();
    let sync = AttendanceSync::new(source(&url), store.clone(), "school", Rules::new("Europe/London".parse().unwrap()));
    let request = || SyncRequest::overnight("2026-11-20".parse().unwrap());
    assert_eq!(sync.run(request()).await.unwrap().marks.added, 16);
    answers.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = sync.run(request()).await.unwrap_err().to_string();
    assert!(error.contains("has been archived"), "{error}");
    let scope = rollmark::rules::Scope::all(today());
    assert_eq!(store.read(&"school".into(), &scope).await.unwrap().marks().len(), 16);
}

#[tokio::test]
async fn numbers_are_read_however_they_are_written_and_keep_every_digit() {
    for (written, id) in [
        ("4733683260", "4733683260"),
        ("4733683260.0", "4733683260"),
        ("4.73368326E9", "4733683260"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("12345678901234567890124.0", "12345678901234567890124"),
        (r#"" 0047336 ""#, "0047336"),
    ] {
        let register = format!(
            r#"[{{"schoolId":{written},"isRegistered":1.0,"isPresent":"True","isLate":1.0,"isOutOfSchool":0.0,
                "numberOfMinutesLate":5.0,"registrationPeriodId":5.0,"absenceCodeId":9.0}}]"#
        );
        let rows = rows(fetch(&source(&with_reply(LISTS[2].0, register))).await.unwrap());
        assert_eq!(rows[0].student, StudentId::new(id), "{written}");
        assert_eq!((rows[0].late, rows[0].minutes_late), (true, Some(5)));
        assert_eq!((&rows[0].period, &rows[0].code), (&Some("5".into()), &Some("9".into())));
    }
    for written in ["1.5", "1e30", "true1", "[1]", r#""\ud800""#, "null"] {
        let register = format!(r#"[{{"schoolId":{written},"isRegistered":1,"isPresent":true,"isOutOfSchool":false}}]"#);
        assert!(fetch(&source(&with_reply(LISTS[2].0, register))).await.is_err(), "{written}");
    }
    for number in ["2", "-1", "\"yes\""] {
        let register =
            format!(r#"[{{"schoolId":"1","isRegistered":{number},"isPresent":true,"isOutOfSchool":false}}]"#);
        let error = fetch(&source(&with_reply(LISTS[2].0, register))).await.unwrap_err();
        assert!(error.to_string().contains("unreadable field isRegistered"), "{number}: {error}");
    }
}

#[tokio::test]
async fn an_optional_field_that_cannot_be_read_is_missing_and_noted() {
    let register = r#"[{"schoolId":"1","isRegistered":1,"isPresent":true,"isOutOfSchool":false,"isLate":"maybe",
        "numberOfMinutesLate":2.5,"registrationComment":"half \ud83d of a pair"}]"#;
    let rows = rows(fetch(&source(&with_reply(LISTS[2].0, register))).await.unwrap());
    assert!(!rows[0].late && rows[0].minutes_late.is_none() && rows[0].comment.is_none());
    assert_eq!(rows[0].unreadable.len(), 3);
}

#[tokio::test]
async fn ids_have_a_length_and_names_and_texts_are_cut() {
    let long = "x".repeat(65);
    for (path, list) in [
        (LISTS[0].0, format!(r#"[{{"id":"{long}"}}]"#)),
        (LISTS[1].0, format!(r#"[{{"id":"{long}","time":"08:40"}}]"#)),
        (LISTS[2].0, format!(r#"[{{"schoolId":"{long}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}]"#)),
        (
            LISTS[2].0,
            format!(
                r#"[{{"schoolId":"1","isRegistered":1,"isPresent":true,"isOutOfSchool":false,"absenceCodeId":"{long}"}}]"#
            ),
        ),
    ] {
        let error = fetch(&source(&with_reply(path, list))).await.unwrap_err();
        assert!(error.to_string().contains("unreadable field"), "{error}");
    }
    let text = "é".repeat(2_000);
    let code = format!(r#"[{{"id":1,"code":"{text}","name":"{text}"}}]"#);
    let items = fetch(&source(&with_reply(LISTS[0].0, code))).await.unwrap();
    let code = items.iter().find_map(|item| match item {
        Item::Record(Record::Code(code)) => Some(code),
        _ => None,
    });
    let code = code.unwrap();
    assert_eq!((&code.letter, code.name.as_ref().unwrap().chars().count()), (&None, 100));
    assert_eq!(code.unreadable.len(), 2);
    let register = format!(
        r#"[{{"schoolId":"1","isRegistered":1,"isPresent":true,"isOutOfSchool":false,"registrationComment":"{text}"}}]"#
    );
    let rows = rows(fetch(&source(&with_reply(LISTS[2].0, register))).await.unwrap());
    assert_eq!(rows[0].comment.as_ref().unwrap().chars().count(), 250);
    assert_eq!(rows[0].unreadable.len(), 1);
}

#[tokio::test]
async fn a_period_without_a_flag_is_flagged_by_its_name() {
    for (fields, flag) in [
        (r#""registrationType":"AM","friendlyName":"PM""#, Some("AM")),
        (r#""registrationType":null,"friendlyName":"PM""#, Some("PM")),
        (r#""friendlyName":"PM register""#, None),
    ] {
        let list = format!(r#"{{"registrationPeriods":[{{"id":5,"time":"08:40",{fields}}}]}}"#);
        let items = fetch(&source(&with_reply(LISTS[1].0, list))).await.unwrap();
        let session = items.iter().find_map(|item| match item {
            Item::Record(Record::Period(period)) => Some(period.session.as_deref()),
            _ => None,
        });
        assert_eq!(session, Some(flag), "{fields}");
    }
}

#[tokio::test]
async fn a_school_without_a_code_table_is_not_asked_for_one() {
    let url = with_reply(LISTS[0].0, r#"{"message":"This client may not read codes."}"#);
    assert!(fetch(&source(&url)).await.is_err());
    let without = source(&url).with_code_table(false);
    assert!(!without.capabilities().has_code_table);
    let items = fetch(&without).await.unwrap();
    let Some(Item::Complete(verdict)) = items.last() else { panic!("no verdict") };
    assert!(!verdict.covers(FetchedKind::Codes, today()) && verdict.covers(FetchedKind::Registrations, today()));
}

#[tokio::test]
async fn a_second_refused_token_is_replaced_after_a_wait_and_a_third_is_not() {
    for (refused, is_read) in [(1, true), (2, true), (3, false)] {
        let given = std::sync::atomic::AtomicU32::new(0);
        let url = crate::common::tenant::answering_to(move |request| match request {
            _ if request.contains("/connect/token") => {
                let number = given.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                ok(format!(r#"{{"access_token":"Token-{number}","expires_in":3600}}"#))
            }
            _ if (1..=refused).any(|number| request.contains(&format!("Bearer Token-{number}\r"))) => {
                with_status("401 Unauthorized", "")
            }
            _ if request.contains("/absencecodes") => ok(r#"{"absenceCodes":[]}"#),
            _ if request.contains("/periods") => ok(PERIODS),
            _ => ok("[]"),
        });
        match fetch(&source(&url)).await {
            Ok(_) => assert!(is_read, "{refused}"),
            Err(error) => assert!(!is_read && error.kind() == SourceErrorKind::Credentials, "{refused}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_link_to_another_page_is_another_page_at_the_same_address() {
    for (link, is_followed) in [
        (r#""_links":{"next":{"href":"https://elsewhere.example/x?page=2"}}"#, true),
        (r#""_links":{"self":{"href":"/x"},"next":null}"#, false),
    ] {
        let url = crate::common::tenant::answering_to(move |request| {
            let row = |number: u32| {
                format!(r#"{{"schoolId":"{number}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}"#)
            };
            match request {
                _ if request.contains("/connect/token") => ok(r#"{"access_token":"Token-4711","expires_in":3600}"#),
                _ if request.contains("/absencecodes") => ok(r#"{"absenceCodes":[]}"#),
                _ if request.contains("/periods") => ok(PERIODS),
                _ if request.contains("page=2") => ok(format!(r#"{{"rows":[{}]}}"#, row(2))),
                _ => ok(format!(r#"{{"rows":[{}],{link}}}"#, row(1))),
            }
        });
        assert_eq!(rows(fetch(&source(&url)).await.unwrap()).len(), if is_followed { 2 } else { 1 });
    }
}

/// A register of 152 rows in two pages, of which the second begins this many rows too early.
fn overlapping(by: u64, largest: u64, about: &'static str) -> String {
    crate::common::tenant::answering_to(move |request| {
        let row = |number: u64| {
            format!(r#"{{"schoolId":"{number}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}"#)
        };
        let size = if request.contains("pageSize=1000") { largest } else { 100 };
        let first = if request.contains("page=2") { size - by } else { 0 };
        let rows: Vec<String> = (first..152.min(first + size)).map(row).collect();
        match request {
            _ if request.contains("/connect/token") => ok(r#"{"access_token":"Token-4711","expires_in":3600}"#),
            _ if request.contains("/absencecodes") => ok(r#"{"absenceCodes":[]}"#),
            _ if request.contains("/periods") => ok(PERIODS),
            _ => {
                let pages = 152_u64.div_ceil(size);
                let about = about.replace("PAGES", &pages.to_string()).replace("SIZE", &size.to_string());
                ok(format!(r#"{{"rows":[{}]{about}}}"#, rows.join(",")))
            }
        }
    })
}

#[tokio::test]
async fn pages_that_repeat_records_are_replaced_by_one_page_or_refused() {
    for about in [
        "",
        r#","totalCount":152"#,
        r#","totalPages":PAGES"#,
        r#","pageSize":SIZE,"totalCount":152,"totalPages":PAGES"#,
    ] {
        assert_eq!(rows(fetch(&source(&overlapping(0, 100, about))).await.unwrap()).len(), 152, "{about}");
        assert_eq!(rows(fetch(&source(&overlapping(2, 1000, about))).await.unwrap()).len(), 152, "{about}");
        let refused = fetch(&source(&overlapping(2, 100, about))).await.map(|items| items.len());
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Incomplete, "{about}");
        assert!(error.to_string().contains("sent records of register/5 again on another page"), "{error}");
    }
}

#[tokio::test]
async fn equal_records_of_one_page_are_all_delivered() {
    let row = r#"{"schoolId":"1","isRegistered":1,"isPresent":true,"isOutOfSchool":false}"#;
    let register = format!(r#"{{"rows":[{row},{row}],"count":2,"totalCount":2,"totalPages":1}}"#);
    assert_eq!(rows(fetch(&source(&with_reply(LISTS[2].0, register))).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn what_the_first_page_says_of_the_whole_list_holds_for_the_later_ones() {
    let row =
        |student: u32| format!(r#"{{"schoolId":"{student}","isRegistered":1,"isPresent":true,"isOutOfSchool":false}}"#);
    let page = |students: std::ops::Range<u32>, says: &str| {
        let rows = students.map(row).collect::<Vec<_>>().join(",");
        format!(r#"{{{says}"registrationStatuses":[{rows}]}}"#)
    };
    let first = page(0..4, r#""totalCount":8,"totalPages":2,"#);
    for second in [
        page(0..0, ""),
        "[]".to_owned(),
        page(0..0, r#""totalPages":2,"#),
        page(4..7, ""),
        page(4..7, r#""totalCount":3,"#),
        page(0..4, ""),
        page(0..4, r#""totalCount":4,"#),
    ] {
        let first = first.clone();
        let answer = second.clone();
        let url = crate::common::tenant::answering_to(move |request| {
            let target = request.split(' ').nth(1).unwrap_or_default();
            let is = |name: &str| target.contains(name);
            ok(match () {
                () if is("/token") => r#"{"access_token":"t","expires_in":3600}"#.to_owned(),
                () if is("absencecodes") => r#"{"absenceCodes":[]}"#.to_owned(),
                () if is("periods") => PERIODS.to_owned(),
                () if is("page=1&") => first.clone(),
                () => answer.clone(),
            })
        });
        let error = fetch(&source(&url)).await.unwrap_err();
        assert!(matches!(error.kind(), SourceErrorKind::Incomplete | SourceErrorKind::BadReply), "{second}: {error}");
    }
}
