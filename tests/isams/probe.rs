//! The probe: the shape of a tenant's replies, and never a value.

use crate::common::tenant::{answering, ok, with_status};
use rollmark::isams::{Batch, EndDate, Format, Probe};
use rollmark::rules::Window;
use rollmark::source::{FetchedKind, SourceErrorKind};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;

fn window() -> Window {
    Window::between("2026-11-16".parse().unwrap(), "2026-11-20".parse().unwrap()).unwrap()
}

async fn tenant() -> (Simulator, Batch) {
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    (simulator, source)
}

async fn probe_of(url: &str) -> Probe {
    Batch::new(url, "key").unwrap().probe(window()).await.unwrap()
}

#[tokio::test]
async fn every_method_is_shown_with_its_containers_fields_and_kinds() {
    let (_simulator, source) = tenant().await;
    let probe = source.probe(window()).await.unwrap();
    assert_eq!(probe.methods.len(), 6);
    assert!(probe.methods.iter().all(|method| method.failure.is_none() && method.containers.len() == 1));
    assert_eq!(probe.methods[0].reads, Some(FetchedKind::Registrations));
    assert_eq!(probe.methods[4].reads, None);
    assert!(!serde_json::to_string(&probe).unwrap().contains("\"reads\""));
    let registrations = &probe.methods[0].containers[0];
    assert_eq!((registrations.name.as_str(), registrations.rows), ("RegistrationStatuses", 800));
    let student = &registrations.fields["PupilId"];
    assert_eq!(student.present, 800);
    assert_eq!(student.kinds.iter().collect::<Vec<_>>(), [(&"digits(10)".to_owned(), &800)]);
    assert_eq!(student.read_by, ["registration_student"]);
    assert_eq!(probe.end_date, EndDate::Exclusive);
    assert_eq!(probe.identical_requests_agree, Some(true));
    assert_eq!(probe.different_ranges_agree, Some(true));
    let mut json = source.with_format(Format::Json).probe(window()).await.unwrap();
    // Both depend on the moment of the request.
    json.newest_update_hours = probe.newest_update_hours;
    json.clock_difference_seconds = probe.clock_difference_seconds;
    assert_eq!(json.to_string(), probe.to_string(), "both formats have one shape");
}

#[tokio::test]
async fn the_clock_is_within_two_seconds_or_ahead_or_behind() {
    let (_simulator, source) = tenant().await;
    let mut probe = source.probe(window()).await.unwrap();
    for (seconds, said) in [
        (Some(-1), "within two seconds of this machine's"),
        (Some(90), "90 seconds ahead of this machine's"),
        (Some(-90), "90 seconds behind this machine's"),
        (None, "can't tell"),
    ] {
        probe.clock_difference_seconds = seconds;
        let text = probe.to_string();
        assert_eq!(text.lines().last().unwrap(), format!("the tenant's clock: {said}"));
    }
}

#[tokio::test]
async fn no_value_shows_whatever_the_reply_holds() {
    let values = [
        "9988776655",
        "2031-07-08",
        "19:47:31",
        "Quicksilver",
        "QZ",
        "4711",
        "mumps",
        "0815-secret",
        "JBOND",
        "31415",
        "{1b2c3d4e-1111-2222-3333-444455556666}",
        "2.71828",
    ];
    let [student, date, time, name, letter, id, reason, odd, author, period, guid, number] = values;
    let mut bodies = Vec::new();
    for method in ["RegistrationStatuses", "OutOfSchoolPupils", "RegistrationPeriods", "RegistrationCodes", "Unheard"] {
        bodies.push(format!(
            "<{method}><Row Id=\"{id}\" Odd=\"{odd}\"><PupilId>{student}</PupilId><Name>{name}</Name><Code>{letter}</Code>\
             <RegistrationDateTime>{date}T{time}</RegistrationDateTime><LastUpdated>{date}T{time}Z</LastUpdated>\
             <Reason>{reason}</Reason><Author>{author}</Author><PeriodId>{period}</PeriodId><Guid>{guid}</Guid>\
             <Time>{time}</Time><Number>{number}</Number><Registered>1</Registered></Row></{method}>"
        ));
    }
    let url = answering(ok(format!("<iSAMS><RegistrationManager>{}</RegistrationManager></iSAMS>", bodies.concat())));
    let probe = probe_of(&url).await;
    let json = serde_json::to_string(&probe).unwrap();
    for text in [probe.to_string(), format!("{probe:?}"), json] {
        for value in values {
            assert!(!text.contains(value), "{value} shows in {text}");
        }
        assert!(text.contains("Unheard") && text.contains("Guid") && text.contains("digits(10)"), "{text}");
    }
    assert_eq!(probe.end_date, EndDate::Inclusive, "this tenant gives the day whatever the end date");

    let says =
        with_status("500 Oops", format!("<Message><Title>{name}</Title><Description>{reason}</Description></Message>"));
    let error = Batch::new(&answering(says), "key").unwrap().probe(window()).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Server);
    assert!(!error.to_string().contains(name) && !error.to_string().contains(reason), "{error}");
}

#[tokio::test]
async fn names_without_end_are_no_shape() {
    let row = |numbers: std::ops::Range<u32>| {
        let fields: String = numbers.map(|number| format!("<f{number}>1</f{number}>")).collect();
        format!("<Row>{fields}</Row>")
    };
    let rows = [row(0..500), row(500..1_000), row(1_000..1_500), row(0..0)].concat();
    let many = format!("<iSAMS><X>{rows}</X></iSAMS>");
    let error = Batch::new(&answering(ok(many)), "key").unwrap().probe(window()).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TooLarge);
    let containers: String = (0..1_000).map(|number| format!("<c{number}/>")).collect();
    let probe = probe_of(&answering(ok(format!("<iSAMS>{containers}</iSAMS>")))).await;
    assert_eq!(probe.methods[0].containers.len(), 64);
}

#[tokio::test]
async fn a_tenant_that_refuses_or_does_not_answer_is_asked_once() {
    let simulator = Simulator::start(FakeSchool::new()).await.unwrap();
    let error = Batch::new(&simulator.url(), "wrong").unwrap().probe(window()).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Credentials);
    assert_eq!(simulator.requests(), 1);
}

#[tokio::test]
async fn a_method_that_is_not_allocated_leaves_the_others() {
    let (simulator, source) = tenant().await;
    simulator.allow_methods(["Registration_GetRegistrationCodes"]);
    let probe = source.probe(window()).await.unwrap();
    let failures: Vec<_> = probe.methods.iter().map(|method| method.failure).collect();
    let refused = Some(SourceErrorKind::NotAllowed);
    assert_eq!(failures, [refused, refused, refused, None, refused, refused]);
    assert_eq!(probe.end_date, EndDate::Unknown);
    assert!(probe.to_string().contains("the credentials lack a permission"));
}

#[tokio::test]
async fn a_required_field_that_no_list_names_is_pointed_out() {
    let (simulator, source) = tenant().await;
    simulator.rename_field("StartDateTime", "AwayFrom");
    let probe = source.probe(window()).await.unwrap();
    assert_eq!(probe.methods[1].containers[0].unmatched, ["out_of_school_from"]);
    assert!(probe.to_string().contains("(--field out_of_school_from=NAME)"));
}

#[tokio::test]
async fn what_never_answers_is_an_error() {
    let refused = answering(with_status("401 No", "<Message><MessageName>InvalidApiKey</MessageName></Message>"));
    let error = Batch::new(&refused, "key").unwrap().probe(window()).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Credentials);
}

#[tokio::test]
async fn a_name_that_holds_the_key_is_not_shown() {
    let key = "1b2c3d4e-0000-4000-8000-0123456789ab";
    for key in [key, "plain-secret"] {
        let escaped = key.chars().map(|letter| format!("\\u{:04x}", letter as u32)).collect::<String>();
        let row = format!(r#""@{key}":"1","{escaped}x":"1","%31":"1","Pupil{key}":"1","PupilId":"1""#);
        let body = format!(r#"{{"iSAMS":{{"C{key}":{{"R{key}":{{{row}}}}}}}}}"#);
        let source = Batch::new(&answering(ok(body)), key).unwrap().with_format(Format::Json);
        let probe = source.probe(window()).await.unwrap();
        let json = serde_json::to_string(&probe).unwrap();
        for text in [probe.to_string(), format!("{probe:?}"), json] {
            assert!(text.contains("PupilId") && !text.contains(&key[..12]) && !text.contains("%31"), "{text}");
        }
    }
}
