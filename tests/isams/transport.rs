//! What holds of every reply, whichever of the two APIs gives it.

use std::io::Write;
use std::time::Duration;

use crate::common::source::{Item, items};
use crate::common::tenant::{answering, answering_by_path, answering_to, ok, with_status};
use flate2::Compression;
use flate2::write::GzEncoder;
use rollmark::isams::{Batch, Rest};
use rollmark::model::Retry;
use rollmark::rules::Window;
use rollmark::source::{AttendanceSource, FetchRequest, SourceError, SourceErrorKind, read_all};

const BATCH: &str = "<iSAMS><RegistrationStatuses/><OutOfSchoolPupils/><RegistrationCodes/></iSAMS>";
const TOKEN: &str = r#"{"access_token":"Token-4711","expires_in":3600}"#;

async fn fetch(source: impl AttendanceSource) -> Result<Vec<Item>, SourceError> {
    let request = FetchRequest::new(Window::day("2026-11-20".parse().unwrap()));
    items(source.fetch(&request).await?).await.into_iter().collect()
}

async fn batch(url: &str) -> Result<Vec<Item>, SourceError> {
    fetch(Batch::new(url, "5f7e6c1a-0000-4000-8000-0123456789ab").unwrap()).await
}

async fn rest(url: &str) -> Result<Vec<Item>, SourceError> {
    fetch(Rest::new(url, "client", "secret of the client").unwrap()).await
}

/// A REST tenant without a register, that gives this reply for its periods.
fn rest_tenant(periods: impl Into<Vec<u8>>) -> String {
    let periods = periods.into();
    answering_by_path(move |path| match path {
        "/auth/connect/token" => ok(TOKEN),
        "/api/registration/absencecodes" => ok(r#"{"absenceCodes":[]}"#),
        _ => periods.clone(),
    })
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Both APIs' replies with this header and their bodies changed alike.
async fn both(status: &str, change: impl Fn(&str) -> Vec<u8>) -> [Result<Vec<Item>, SourceError>; 2] {
    let batch = batch(&answering(with_status(status, change(BATCH)))).await;
    let rest = rest(&rest_tenant(with_status(status, change(r#"{"registrationPeriods":[]}"#)))).await;
    [batch, rest]
}

#[tokio::test]
async fn a_compressed_reply_is_read_to_its_end_and_nothing_may_follow() {
    for name in ["gzip", "GZIP", "x-gzip"] {
        for read in both(&format!("200 OK\r\nContent-Encoding: {name}"), gzip).await {
            assert!(read.is_ok(), "{name}: {read:?}");
        }
    }
    let with_more = |more: &[u8]| {
        let more = more.to_vec();
        move |text: &str| [gzip(text), more.clone()].concat()
    };
    for more in [gzip("<more/>"), gzip(""), b"more".to_vec(), vec![0], vec![b' '; 1 << 20]] {
        for read in both("200 OK\r\nContent-Encoding: gzip", with_more(&more)).await {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::BadReply, "{error}");
            assert!(error.to_string().contains("goes on after the end of its compressed data"), "{error}");
        }
    }
}

#[tokio::test]
async fn damaged_compression_is_tried_again_and_named() {
    let halved = |text: &str| {
        let whole = gzip(text);
        whole[..whole.len() - 9].to_vec()
    };
    let wrong_sum = |text: &str| {
        let mut whole = gzip(text);
        let sum = whole.len() - 8;
        whole[sum] ^= 1;
        whole
    };
    let changes: [fn(&str) -> Vec<u8>; 2] = [halved, wrong_sum];
    for change in changes {
        for read in both("200 OK\r\nContent-Encoding: gzip", change).await {
            let error = read.unwrap_err().to_string();
            assert!(error.contains("its compression is damaged") && error.contains("tried 4 times"), "{error}");
        }
    }
}

#[tokio::test]
async fn an_error_says_what_to_do() {
    let later = "; run again later; if it stays so, ";
    let network = format!("{later}check the network, and any proxy between here and iSAMS (tried 4 times");
    let support = format!("{later}ask iSAMS support");
    let utf_16: Vec<u8> = BATCH.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (reply, says) in [
        (
            ok(&BATCH[..BATCH.len() - 9]),
            format!("the reply ends in the middle of the document{support} (tried 4 times"),
        ),
        (with_status("200 OK\r\nContent-Encoding: gzip", "text"), format!("its compression is damaged{network}")),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{BATCH}").into(),
            format!("the connection broke off in the middle of the reply{network}"),
        ),
        (Vec::new(), format!("the connection broke off before the reply{network}")),
        (with_status("500 Oops", ""), format!("an error and did not say which{support} (HTTP status 500)")),
        (ok(utf_16), "a byte order mark; check the address, and if it is right, ask iSAMS support".to_owned()),
    ] {
        let error = batch(&answering(reply)).await.unwrap_err().to_string();
        assert!(error.contains(&says), "{says}: {error}");
    }
}

#[tokio::test]
async fn a_part_of_a_reply_is_refused() {
    for status in ["206 Partial Content", "200 OK\r\nContent-Range: bytes 0-70/5000"] {
        for read in both(status, |text| text.as_bytes().to_vec()).await {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::BadReply);
            assert!(error.to_string().contains("only a part of the reply came"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_name_that_is_twice_in_one_object_is_refused() {
    for periods in [
        r#"{"registrationPeriods":[],"registrationPeriods":[{"id":1,"time":"08:40"}]}"#,
        r#"{"registrationPeriods":[],"RegistrationPeriods":[]}"#,
        r#"{"registrationPeriods":[{"id":1,"time":"08:40","id":2}]}"#,
        r#"{"registrationPeriods":[{"id":1,"time":"08:40","divisions":[{"id":1,"\u0069d":2}]}]}"#,
    ] {
        let error = rest(&rest_tenant(ok(periods))).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::BadReply);
        assert!(error.to_string().contains("twice in one object"), "{error}");
    }
}

#[tokio::test]
async fn a_token_reply_without_a_usable_token_says_so() {
    for (reply, says) in [
        (r#"{"access_token":"","expires_in":3600}"#, "an empty token"),
        (r#"{"access_token":"  ","expires_in":3600}"#, "an empty token"),
        (r#"{"access_token":null}"#, "no token"),
        (r#"{"access_token":"one","access_token":"two"}"#, "no token"),
        (r#"{"message":"no"}"#, "no token"),
    ] {
        let error = rest(&answering(ok(reply))).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::BadReply);
        assert!(error.to_string().contains(says), "{reply}: {error}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_token_request_is_said_of_the_sign_in() {
    for (reply, says) in [
        (ok("<!DOCTYPE html><html/>"), "the reply is an HTML page"),
        (with_status("500 Oops", "<html/>"), "iSAMS answered with an error and did not say which"),
        (with_status("404 Not Found", ""), "there is no iSAMS interface"),
        (
            with_status("302 Found\r\nLocation: https://elsewhere.example/", ""),
            "the tenant's address answers with a redirect",
        ),
        (with_status("429 Too Many\r\nRetry-After: 3600", ""), "iSAMS can't answer now"),
    ] {
        let error = rest(&answering(reply)).await.unwrap_err().to_string();
        let says = format!("signing in (the request for a token) failed: {says}");
        assert!(error.contains(&says), "{says}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_that_is_not_followed_is_told_by_where_it_leads() {
    for (answer, says) in [
        ("304 Not Modified", "nothing has changed"),
        ("302 Found", "does not say where to"),
        ("302 Found\r\nLocation: http://[", "does not say where to"),
        ("307 Temporary Redirect\r\nLocation: ?again=1", "a page of the same host that can't be followed"),
        ("307 Temporary Redirect\r\nLocation: http://elsewhere.example/?apiKey=x", "another host or port"),
        ("307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/", "another host or port"),
    ] {
        for read in both(answer, |_| Vec::new()).await {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::BadReply, "{error}");
            let error = error.to_string();
            assert!(
                error.contains(says) && error.contains(&format!("(HTTP status {})", &answer[..3])),
                "{says}: {error}"
            );
            assert!(!error.contains("elsewhere") && !error.contains('?'), "{error}");
        }
    }
}

/// Asks for a wait, as the header says it: the error, and how many requests were made.
async fn asked_to_wait(wait: &str, deadline: Duration) -> (SourceError, u64) {
    let url = answering(with_status(&format!("429 Too Many\r\nRetry-After: {wait}"), ""));
    let source = Batch::new(&url, "key").unwrap().with_total_deadline(deadline);
    let request = FetchRequest::new(Window::day("2026-11-20".parse().unwrap()));
    let error = read_all(&source, &request, Vec::new).await.unwrap_err();
    (error, request.counters().tally().requests)
}

#[tokio::test]
async fn no_request_comes_before_the_wait_that_the_tenant_asks_for() {
    let three_minutes = Duration::from_secs(180);
    for (wait, says, seconds) in [
        ("61", "61 s", 61),
        ("121", "3 min", 121),
        ("3600", "1 h 00 min", 3_600),
        ("5430", "1 h 31 min", 5_430),
        ("99999999999999999999999", "262800 h 00 min", 30 * 365 * 86_400),
    ] {
        let (error, requests) = asked_to_wait(wait, three_minutes).await;
        let says = format!("asks to wait {says} before the next request; run again then (tried once in 0.");
        assert!(error.to_string().contains(&says), "{says}: {error}");
        assert_eq!((error.retry(), requests), (Retry::After(Duration::from_secs(seconds)), 1));
    }
    let in_an_hour = (chrono::Utc::now() + Duration::from_secs(3_600)).to_rfc2822();
    let (error, requests) = asked_to_wait(&in_an_hour, three_minutes).await;
    assert!(error.to_string().contains("asks to wait 1 h 00 min"), "{error}");
    assert_eq!((error.kind(), requests), (SourceErrorKind::Throttled, 1));
    // It would be over after the time that is set for a fetch; a later one may do.
    let (error, requests) = asked_to_wait("30", Duration::from_secs(20)).await;
    assert!(error.to_string().contains("asks to wait 30 s before the next request"), "{error}");
    assert_eq!((error.retry(), requests), (Retry::Exhausted, 1));
    // A short one is sat out.
    let (error, requests) = asked_to_wait("1", Duration::from_millis(1_900)).await;
    assert!(requests == 2 && error.to_string().contains("tried 2 times"), "{requests}: {error}");
}

#[tokio::test]
async fn a_redirect_with_a_password_in_its_address_is_not_followed() {
    for user in ["user:pa55word@", "user@", ":pa55word@"] {
        let url = answering_to(move |request| {
            let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
            match request {
                _ if request.contains("/moved") => ok(BATCH),
                _ if request.contains("/connect/token") => ok(TOKEN),
                _ => with_status(&format!("307 Temporary Redirect\r\nLocation: http://{user}{host}/moved"), ""),
            }
        });
        for read in [batch(&url).await, rest(&url).await] {
            let error = read.unwrap_err().to_string();
            assert!(error.contains("redirect") && !error.contains("pa55word"), "{error}");
        }
    }
}

/// A proxy that refuses everything, and what it was asked.
#[cfg(feature = "rustls")]
fn proxy() -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let asked = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let seen = std::sync::Arc::clone(&asked);
    let url = answering_to(move |request| {
        seen.lock().unwrap().push(request.lines().next().unwrap_or_default().to_owned());
        with_status("403 Forbidden", "")
    });
    (url, asked)
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn a_proxy_stands_before_the_tenant_and_its_token_service() {
    let deadline = std::time::Duration::from_millis(300);
    let (url, asked) = proxy();
    let batch = Batch::new("https://school.example", "key").unwrap().with_proxy(&url).unwrap();
    assert!(fetch(batch.with_total_deadline(deadline)).await.is_err());
    assert_eq!(asked.lock().unwrap().first().unwrap(), "CONNECT school.example:443 HTTP/1.1");
    let (url, asked) = proxy();
    let rest = Rest::new("https://school.example:8443", "client", "secret").unwrap().with_proxy(&url).unwrap();
    assert!(fetch(rest.with_total_deadline(deadline)).await.is_err());
    assert_eq!(asked.lock().unwrap().first().unwrap(), "CONNECT school.example:8443 HTTP/1.1");
}

#[tokio::test]
async fn a_tenant_on_this_machine_is_reached_without_a_proxy() {
    let source = Batch::new(&answering(ok(BATCH)), "key").unwrap().with_proxy("http://127.0.0.1:1").unwrap();
    assert!(fetch(source).await.is_ok());
}

#[test]
fn what_is_no_proxy_and_what_is_no_certificate_are_refused_without_being_quoted() {
    let source = || Batch::new("https://school.example", "key").unwrap();
    let error = source().with_proxy("http://user:Passw0rd@").unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Configuration);
    assert!(!format!("{error:#?}").contains("Passw0rd"), "{error:?}");
    #[cfg(feature = "rustls")]
    {
        assert!(source().with_root_certificate(include_bytes!("../fixtures/authority.pem")).is_ok());
        for pem in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = source().with_root_certificate(pem.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Configuration, "{pem}");
        }
    }
}
