//! Serves a made-up school as an iSAMS tenant, for clients in any language: `cargo run --example simulator`.

use std::net::{Ipv4Addr, SocketAddr};

use chrono::{Days, NaiveDate, Utc};
use clap::Parser;
use rollmark::isams::simulator::Simulator;
use rollmark::source::FakeSchool;

/// Serves a made-up school as an iSAMS tenant on a loopback port.
#[derive(Parser)]
struct Flags {
    /// The port; 0 is a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The school's today [default: the clock's date]
    #[arg(long, value_name = "DATE")]
    today: Option<NaiveDate>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let flags = Flags::parse();
    let today = flags.today.unwrap_or_else(|| Utc::now().date_naive());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, flags.port));
    let simulator = Simulator::start_at(FakeSchool::demo(today), address).await?;
    let (url, key) = (simulator.url(), simulator.api_key());
    let tomorrow = today.checked_add_days(Days::new(1)).unwrap_or(today);
    println!("A made-up school is served at {url} until you press Ctrl+C. The end date is not included.\n");
    for page in ["xml.ashx", "json.ashx"] {
        println!(
            "curl '{url}/api/batch/1.0/{page}?apiKey={key}' -H 'Content-Type: application/xml' -d \
             '<Filters><MethodsToRun><Method>Registration_GetRegistrationStatus</Method></MethodsToRun>\
             <Registration><RegistrationStatus StartDate=\"{today}\" EndDate=\"{tomorrow}\" /></Registration></Filters>'\n"
        );
    }
    println!(
        "A token, for scope apiv1 (Batch, with the client's id as apiKey) or restapi (REST, which serves {today} only):\n\n\
         curl '{url}/auth/connect/token' -d grant_type=client_credentials -d scope=restapi -d client_id={} \
         --data-urlencode 'client_secret={}'\n\ncurl '{url}/api/registration/periods' -H 'Authorization: Bearer TOKEN'",
        simulator.client_id(),
        simulator.client_secret()
    );
    std::future::pending().await
}
