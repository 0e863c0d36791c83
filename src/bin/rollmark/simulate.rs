use std::net::{Ipv4Addr, SocketAddr};

use chrono::{Days, NaiveDate, Utc};
use clap::Args;
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::{Fault, Simulator};

use crate::flags::parse_date;
use crate::output::{Failure, say, say_json};

/// Serves a made-up school as an iSAMS tenant on a loopback port, for clients in any language.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollmark simulate --port 8080 --fault 429:5 --fault half")]
pub struct Flags {
    /// The port; 0 is a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The school's today [default: the clock's date]
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    today: Option<NaiveDate>,
    /// Allocates only this method to the key; can be repeated [default: all six]
    #[arg(long = "method", value_name = "NAME")]
    methods: Vec<String>,
    /// Cuts every container at this many rows, silently
    #[arg(long, value_name = "ROWS")]
    cap_rows: Option<usize>,
    /// Answers every Nth request with 429
    #[arg(long, value_name = "N")]
    throttle_every: Option<u64>,
    /// What the next request meets; can be repeated: deadlock, lock-time-out, login-page, empty, reset, half, not-xml,
    /// content-type, drip, error-object, no-codes, or a status and the seconds to wait, such as 503 or 429:5
    #[arg(long = "fault", value_name = "FAULT", value_parser = parse_fault)]
    faults: Vec<Fault>,
    /// Prints address, key and client as JSON
    #[arg(long)]
    json: bool,
}

fn parse_fault(text: &str) -> Result<Fault, String> {
    Ok(match text {
        "deadlock" => Fault::Deadlock,
        "lock-time-out" => Fault::LockTimeOut,
        "login-page" => Fault::LoginPage,
        "empty" => Fault::EmptyBody,
        "reset" => Fault::Reset,
        "half" => Fault::HalfDocument,
        "not-xml" => Fault::NotXml,
        "content-type" => Fault::WrongContentType,
        "drip" => Fault::SlowDrip,
        "error-object" => Fault::ErrorObject,
        "no-codes" => Fault::NoCodes,
        status => {
            let (status, wait) = status.split_once(':').map_or((status, None), |(status, wait)| (status, Some(wait)));
            let wrong = || "not a fault that a tenant can have here".to_owned();
            let status = status.parse().ok().filter(|status| (200..600).contains(status)).ok_or_else(wrong)?;
            Fault::Status(status, wait.map(str::parse).transpose().map_err(|_| wrong())?)
        }
    })
}

pub async fn run(flags: Flags) -> Result<u8, Failure> {
    let today = flags.today.unwrap_or_else(|| Utc::now().date_naive());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, flags.port));
    let simulator = Simulator::start_at(FakeSchool::demo(today), address)
        .await
        .map_err(|error| format!("can't serve at {address}: {error}; choose another --port"))?;
    if !flags.methods.is_empty() {
        simulator.allow_methods(flags.methods.iter().map(String::as_str));
    }
    flags.cap_rows.into_iter().for_each(|rows| simulator.cap_rows(rows));
    if let Some(requests) = flags.throttle_every {
        simulator.fail_every(requests, [Fault::Status(429, Some(0))]);
    }
    flags.faults.into_iter().for_each(|fault| simulator.fail_next(fault));
    if flags.json {
        say_json(&serde_json::json!({
            "url": simulator.url(),
            "api_key": simulator.api_key(),
            "client_id": simulator.client_id(),
            "client_secret": simulator.client_secret(),
            "today": today,
        }))?;
    } else {
        tell_how(&simulator, today);
    }
    Ok(std::future::pending().await)
}

/// How to call it, to be copied and pasted.
fn tell_how(simulator: &Simulator, today: NaiveDate) {
    let (url, key) = (simulator.url(), simulator.api_key());
    let (id, secret) = (simulator.client_id(), simulator.client_secret());
    let from = today.checked_sub_days(Days::new(30)).unwrap_or(today);
    let tomorrow = today.checked_add_days(Days::new(1)).unwrap_or(today);
    let filters = |methods: [&str; 2], dates: String| {
        let methods: String = methods.iter().map(|method| format!("<Method>Registration_{method}</Method>")).collect();
        format!(
            "-H 'Content-Type: application/xml' -d '<Filters><MethodsToRun>{methods}</MethodsToRun>\
             <Registration>{dates}</Registration></Filters>'"
        )
    };
    let statuses = filters(
        ["GetRegistrationStatus", "GetRegistrationCodes"],
        format!("<RegistrationStatus StartDate=\"{today}\" EndDate=\"{tomorrow}\" />"),
    );
    let others = filters(
        ["GetOutOfSchoolPupils", "GetRegistrationPeriods"],
        format!(
            "<OutOfSchoolPupils StartDate=\"{from}\" EndDate=\"{tomorrow}\" />\
             <RegistrationPeriods StartDate=\"{today}\" EndDate=\"{tomorrow}\" />"
        ),
    );
    let token = |scope: &str| {
        format!(
            "curl '{url}/auth/connect/token' -d grant_type=client_credentials -d scope={scope} -d client_id={id} \
             --data-urlencode 'client_secret={secret}'"
        )
    };
    let bearer = "-H 'Authorization: Bearer TOKEN'";
    let text = format!(
        "A made-up school is served at {url} until you press Ctrl+C.\n\
         It has registers from {from} to {today}. API key {key}, OAuth client {id}, its secret {secret}.\n\n\
         Batch API, with the key; the end date is not included. GetPresentCodes and GetDatesAndTimes are there too.\n\n\
         curl '{url}/api/batch/1.0/xml.ashx?apiKey={key}' {statuses}\n\n\
         curl '{url}/api/batch/1.0/json.ashx?apiKey={key}' {others}\n\n\
         Batch API, with a token in place of TOKEN:\n\n\
         {}\n\n\
         curl '{url}/api/batch/1.0/xml.ashx?apiKey={id}' {bearer} {statuses}\n\n\
         REST API, which serves {today} only:\n\n\
         {}\n\n\
         curl '{url}/api/registration/periods' {bearer}\n\
         curl '{url}/api/registration/register/PERIOD?page=1&pageSize=10' {bearer}\n\
         curl '{url}/api/registration/register/PERIOD/students/STUDENT' {bearer}\n\
         curl '{url}/api/registration/absencecodes' {bearer}\n\
         curl '{url}/api/registration/presentcodes' {bearer}\n\n\
         A token is given back, and refused from then on, with the same form and token=TOKEN at \
         {url}/auth/connect/revocation.",
        token("apiv1"),
        token("restapi"),
    );
    text.lines().for_each(say);
}
