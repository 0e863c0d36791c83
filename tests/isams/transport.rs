//! What holds of every reply, whichever of the two APIs gives it.

use std::io::Write;

use crate::common::source::{Item, items};
use crate::common::tenant::{answering, answering_by_path, answering_to, ok, with_status};
use flate2::Compression;
use flate2::write::GzEncoder;
use rollmark::isams::{Batch, Rest};
use rollmark::rules::Window;
use rollmark::source::{AttendanceSource, FetchRequest, SourceError, SourceErrorKind};

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
async fn a_part_of_a_reply_is_refused() {
    for status in ["206 Partial Content", "200 OK\r\nContent-Range: bytes 0-70/5000"] {
        for read in both(status, |text| text.as_bytes().to_vec()).await {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::BadReply);
            assert!(error.to_string().contains("a part of a reply"), "{error}");
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
