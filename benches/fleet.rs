//! What a fleet costs beside its schools one by one: `cargo bench --bench fleet --all-features`.
//!
//! Whole processes over loopback connections; the tenants take a part of the same processors. The peak of memory is Linux's.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate};

const ROUNDS: usize = 5;
const SCHOOLS: usize = 200;
/// A school of 70,000 rows a month: twenty days of seven registers.
const STUDENTS: u64 = 500;
const DAYS: u64 = 20;
const REGISTERS: u64 = 7;
const TODAY: &str = "2026-11-20";

fn main() {
    let feed = feed();
    let rows = STUDENTS * DAYS * REGISTERS;
    println!("a school of {rows} rows, {:.0} MB", feed.len() as f64 / 1e6);
    let url = serve(feed);
    let folder = tempfile::tempdir().unwrap();

    for store in ["memory", "sqlite:marks.db"] {
        let one = schools(folder.path(), "one.toml", &url, store, 1);
        let (first, _) = fleet(folder.path(), &one, 1);
        let mut alone: Vec<Duration> = (0..ROUNDS).map(|_| fleet(folder.path(), &one, 1).0).collect();
        alone.sort();
        let alone = alone[ROUNDS / 2];
        println!("{store}: a school alone takes {first:.2?} the first night, {alone:.2?} the next ones");
        for count in [SCHOOLS / 4, SCHOOLS] {
            let all = schools(folder.path(), "all.toml", &url, store, count);
            // The first night.
            fleet(folder.path(), &all, 2);
            for at_once in [2, 4] {
                let (wall, peak) = fleet(folder.path(), &all, at_once);
                let half = alone.as_secs_f64() * count as f64 / 2.0;
                let times = wall.as_secs_f64() / half;
                println!(
                    "  {count} schools, {at_once} at once: {wall:.1?}, {times:.2} times half the sum; peak {peak:.0} MB"
                );
            }
        }
    }
}

/// A file of schools that keep their marks in one store.
fn schools(folder: &Path, name: &str, url: &str, store: &str, count: usize) -> String {
    let mut text = format!("[defaults]\nstore = \"{store}\"\napi_key_env = \"KEY\"\nsweep = false\n");
    for number in 0..count {
        text += &format!("[[school]]\nid = \"school-{number}\"\nurl = \"{url}\"\n");
    }
    std::fs::write(folder.join(name), text).unwrap();
    name.to_owned()
}

/// How long a fleet takes, and the peak of its memory in MB.
fn fleet(folder: &Path, file: &str, at_once: usize) -> (Duration, f64) {
    let started = Instant::now();
    let mut running = Command::new(env!("CARGO_BIN_EXE_rollmark"))
        .args([
            "fleet",
            file,
            "--now",
            "2026-11-20T18:00:00Z",
            "--per-host",
            "64",
            "--concurrency",
            &at_once.to_string(),
        ])
        .current_dir(folder)
        .env("KEY", "key")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0.0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(peak);
        if let Some(status) = running.try_wait().unwrap() {
            assert!(status.success(), "{file}: {status}");
            return (started.elapsed(), peak / 1e3);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn feed() -> Vec<u8> {
    let today: NaiveDate = TODAY.parse().unwrap();
    let mut feed = b"<iSAMS><RegistrationManager><RegistrationCodes /><RegistrationStatuses>".to_vec();
    for day in 0..DAYS {
        let date = today - Days::new(day);
        for (register, student) in
            (0..REGISTERS).flat_map(|register| (0..STUDENTS).map(move |student| (register, student)))
        {
            let (id, hour) = ((day * REGISTERS + register) * STUDENTS + student, 8 + register);
            write!(
                feed,
                "<RegistrationStatus Id=\"{id}\"><PupilId>{}</PupilId><Registered>1</Registered>\
                 <RegistrationDateTime>{date}T{hour:02}:40:00</RegistrationDateTime><Alert>0</Alert>\
                 <ParentNotificationSent>0</ParentNotificationSent><Author>STAFF</Author>\
                 <LastUpdated>{date}T{hour:02}:52:11.123</LastUpdated><PeriodId>{}</PeriodId></RegistrationStatus>",
                4_733_683_260 + student,
                50_000 + register
            )
            .unwrap();
        }
    }
    feed.extend(b"</RegistrationStatuses><OutOfSchoolPupils /></RegistrationManager></iSAMS>");
    feed
}

/// Answers the request for codes with none, and the other with the feed.
fn serve(feed: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let feed = Arc::new(feed);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let feed = Arc::clone(&feed);
            std::thread::spawn(move || answer(stream, &feed));
        }
    });
    url
}

fn answer(mut stream: TcpStream, feed: &[u8]) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"</Filters>") {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
    let asks_codes = String::from_utf8_lossy(&request).contains("GetRegistrationCodes");
    let codes = b"<iSAMS><RegistrationCodes /><RegistrationPeriods /></iSAMS>";
    let body = if asks_codes { &codes[..] } else { feed };
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}
