//! The simulator as clients that are not rollmark's meet it: whatever public clients do, it answers like iSAMS.

use reqwest::{Client, Response, StatusCode};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::{Fault, Simulator};

const STATUS: &str = r#"<Filters><MethodsToRun><Method>Registration_GetRegistrationStatus</Method></MethodsToRun>
    <Registration><RegistrationStatus StartDate="2026-11-20" EndDate="2026-11-21" /></Registration></Filters>"#;

async fn demo() -> Simulator {
    Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap()
}

async fn batch(simulator: &Simulator, body: &str) -> String {
    let url = format!("{}/api/batch/1.0/xml.ashx?apiKey={}", simulator.url(), simulator.api_key());
    Client::new().post(url).body(body.to_owned()).send().await.unwrap().text().await.unwrap()
}

fn rows(reply: &str) -> usize {
    reply.matches("<RegistrationStatus ").count()
}

async fn token(simulator: &Simulator, scope: Option<&str>) -> String {
    let (id, secret) = (simulator.client_id(), simulator.client_secret());
    let mut form = vec![("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", &secret)];
    form.extend(scope.map(|scope| ("scope", scope)));
    let reply = Client::new().post(format!("{}/auth/connect/token", simulator.url())).form(&form).send().await;
    let reply: serde_json::Value = reply.unwrap().text().await.unwrap().parse().unwrap();
    reply["access_token"].as_str().unwrap_or_default().to_owned()
}

async fn get(url: &str, authorization: &str) -> Response {
    Client::new().get(url).header("Authorization", authorization).send().await.unwrap()
}

#[tokio::test]
async fn names_count_without_regard_to_case_and_times_are_not_cut_off() {
    let simulator = demo().await;
    assert_eq!(rows(&batch(&simulator, STATUS).await), 160);
    let lower = STATUS.replace("StartDate", "startDate").replace("EndDate", "endDate").replace("Get", "get");
    assert_eq!(rows(&batch(&simulator, &lower).await), 160);
    let morning = STATUS.replace("2026-11-21", "2026-11-20T12:00:00");
    assert_eq!(rows(&batch(&simulator, &morning).await), 120, "the registers before noon");

    let url = format!("{}/Main/API/Batch/1.0/XML.ashx?APIKEY={{{}}}", simulator.url(), simulator.api_key());
    let reply = Client::new().post(url).body(STATUS).send().await.unwrap().text().await.unwrap();
    assert_eq!(rows(&reply), 160);
}

#[tokio::test]
async fn a_request_without_a_body_asks_for_every_method_of_the_key() {
    let simulator = demo().await;
    assert!(batch(&simulator, "").await.contains("FiltersRequiredException"));
    simulator.allow_methods(["Registration_GetRegistrationCodes"]);
    for reply in [batch(&simulator, "").await, batch(&simulator, "<Filters />").await] {
        assert_eq!(reply.matches("<RegistrationCode ").count(), 4, "{reply}");
    }
    let url = format!("{}/api/batch/1.0/json.ashx?apiKey={}", simulator.url(), simulator.api_key());
    let reply = Client::new().get(url).send().await.unwrap().text().await.unwrap();
    assert!(reply.contains("RegistrationCodes"), "{reply}");
    let refused = batch(&simulator, STATUS).await;
    assert!(refused.contains("MethodsNotAllocatedToKeyException"), "{refused}");
    assert!(refused.contains("registration_getregistrationstatus"), "{refused}");
}

#[tokio::test]
async fn what_is_no_filter_document_is_refused() {
    let simulator = demo().await;
    for body in
        ["Filters", "<Root><Filters /></Root>", "<!DOCTYPE x><Filters />", "<Filters /><Filters />", "<Filters>"]
    {
        let reply = batch(&simulator, body).await;
        assert!(reply.contains("Unknown Error") && reply.contains("Data at the root level"), "{body}: {reply}");
    }
    let url = format!("{}/api/batch/1.0/xml.ashx", simulator.url());
    let reply = Client::new().post(&url).body(STATUS).send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    assert!(reply.text().await.unwrap().contains("MissingParameter"));
    let wrong = Client::new().post(url + "?apiKey=wrong").body(STATUS).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let path = format!("{}/api/registration/periods", simulator.url());
    let reply = Client::new().put(path).send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.headers()["allow"], "GET, HEAD");
}

#[tokio::test]
async fn a_token_opens_what_its_scope_says() {
    let simulator = demo().await;
    let url = simulator.url();
    let periods = format!("{url}/API/Registration/Periods?divisionId=1");
    let batch = format!("{url}/api/batch/1.0/xml.ashx?apiKey={}", simulator.client_id());
    for (scope, opens_batch, opens_rest) in [
        (Some("restapi"), false, true),
        (Some("apiv1"), true, false),
        (Some("restapi apiv1"), true, true),
        (None, true, true),
        (Some("everything"), false, false),
    ] {
        let authorization = format!("bearer {}", token(&simulator, scope).await);
        let is_open = get(&periods, &authorization).await.status().is_success();
        assert_eq!(is_open, opens_rest, "{scope:?}");
        let request = Client::new().post(&batch).header("Authorization", &authorization).body(STATUS);
        assert_eq!(request.send().await.unwrap().status().is_success(), opens_batch, "{scope:?}");
    }
}

#[tokio::test]
async fn http_basic_carries_any_secret_plain_or_encoded_in_utf8_or_latin1() {
    let simulator = demo().await;
    simulator.set_client("client", "s&cr=t +%/ü");
    let url = format!("{}/auth/connect/token", simulator.url());
    for plain in [&b"client:s&cr=t +%/\xc3\xbc"[..], b"client:s&cr=t +%/\xfc", b"client:s%26cr%3Dt+%2B%25%2F%C3%BC"] {
        let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, plain);
        let request = Client::new().post(&url).header("Authorization", format!("Basic {basic}"));
        let reply = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "{plain:?}");
    }
}

#[tokio::test]
async fn rest_pages_and_divisions_are_told_apart() {
    let simulator = demo().await;
    let authorization = format!("Bearer {}", token(&simulator, Some("restapi")).await);
    let ask = async |path: &str| -> serde_json::Value {
        let reply = get(&format!("{}/api/registration/{path}", simulator.url()), &authorization).await;
        reply.text().await.unwrap().parse().unwrap()
    };
    let periods = ask("periods").await;
    assert_eq!(periods["registrationPeriods"].as_array().unwrap().len(), 4);
    assert_eq!(ask("periods?divisionId=2").await["registrationPeriods"], serde_json::json!([]));
    assert!(ask("periods?divisionId=senior").await["message"].is_string());
    let period = &periods["registrationPeriods"][0]["id"];
    let page = ask(&format!("register/{period}?pagesize=15&page=3")).await;
    assert_eq!((&page["count"], &page["totalPages"], &page["totalCount"]), (&10.into(), &3.into(), &40.into()));
}

#[tokio::test]
async fn an_error_can_come_with_status_200_and_a_code_table_can_be_empty_for_one_request() {
    let simulator = demo().await;
    let authorization = format!("Bearer {}", token(&simulator, Some("restapi")).await);
    let url = format!("{}/api/registration/absencecodes", simulator.url());
    simulator.fail_next(Fault::ErrorObject);
    let reply = get(&url, &authorization).await;
    assert_eq!(reply.status(), StatusCode::OK);
    let reply: serde_json::Value = reply.text().await.unwrap().parse().unwrap();
    assert!(reply["message"].is_string(), "{reply}");

    simulator.fail_next(Fault::NoCodes);
    for codes in [0, 4] {
        let reply: serde_json::Value = get(&url, &authorization).await.text().await.unwrap().parse().unwrap();
        assert_eq!(reply["absenceCodes"].as_array().unwrap().len(), codes);
    }
    simulator.allow_methods(["Registration_GetRegistrationCodes"]);
    simulator.fail_next(Fault::NoCodes);
    assert!(batch(&simulator, "").await.contains("<RegistrationCodes />"));
    assert_eq!(batch(&simulator, "").await.matches("<RegistrationCode ").count(), 4);
}
