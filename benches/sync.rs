//! What a whole sync costs beside looking at the bytes of its feed: `cargo bench --bench sync`.
//!
//! Every figure is a whole process's, over a loopback connection, and every baseline is measured in the same run, since only
//! the ratios travel from machine to machine. Processor times and the peak of memory are Linux's.

use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use chrono::NaiveDate;
use rollmark::isams::{Batch, Format};
use rollmark::model::{Record, Registration};
use rollmark::rules::{Resolver, Rules, SyncWindow, Window};
use rollmark::store::{MarkStore, MemoryStore, SqliteStore};
use rollmark::sync::{AttendanceSync, SyncRequest};

const ROUNDS: usize = 5;
const STUDENTS: u64 = 1_500;
/// Registers of a day; a long feed has three times as many, and as many marks.
const REGISTERS: u32 = 8;
const DAYS: u32 = 31;
const LENGTH: &str = "ROLLMARK_FEED_BYTES";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, child, mode, url, registers] = &arguments[..]
        && child == "child"
    {
        return run(mode, url, registers.parse().unwrap());
    }
    // `cargo bench` adds `--bench`.
    let wanted: Vec<&str> = arguments[1..].iter().map(String::as_str).filter(|name| !name.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);
    for (name, form) in [("plain", Form::Plain), ("varied", Form::Varied), ("json", Form::Json)] {
        if !is_wanted(name) {
            continue;
        }
        let feed = Arc::new(feed(form, REGISTERS));
        let url = serve(Arc::clone(&feed));
        println!("a feed of {:.0} MB, {name}", feed.len() as f64 / 1e6);
        let baseline = if matches!(form, Form::Json) { "raw-json" } else { "raw-xml" };
        let sync = if matches!(form, Form::Json) { "json" } else { "xml" };
        compare(baseline, &[sync, &format!("{sync}-sqlite")], &url, feed.len(), REGISTERS);
    }
    if is_wanted("long") {
        let feed = Arc::new(feed(Form::Plain, 3 * REGISTERS));
        let url = serve(Arc::clone(&feed));
        println!("a feed of {:.0} MB, plain", feed.len() as f64 / 1e6);
        compare("raw-xml", &["xml"], &url, feed.len(), 3 * REGISTERS);
    }
    for rows in [10_000, 300_000, 3_000_000].into_iter().filter(|_| is_wanted("resolve")) {
        resolve(rows);
    }
}

/// One figure of each process of some rounds.
#[derive(Default)]
struct Figures {
    wall: Vec<f64>,
    processor: Vec<f64>,
    peak: Vec<f64>,
}

fn compare(baseline: &str, modes: &[&str], url: &str, length: usize, registers: u32) {
    let mut base = Figures::default();
    let mut others: Vec<Figures> = modes.iter().map(|_| Figures::default()).collect();
    for _ in 0..ROUNDS {
        measure(baseline, url, length, registers, &mut base);
        for (mode, figures) in modes.iter().zip(&mut others) {
            measure(mode, url, length, registers, figures);
        }
    }
    let (wall, processor) = (median(&mut base.wall), median(&mut base.processor));
    println!("  {baseline}: {wall:.2} s, processor {processor:.2} s");
    for (mode, mut figures) in modes.iter().zip(others) {
        let (own_wall, own_processor) = (median(&mut figures.wall), median(&mut figures.processor));
        println!(
            "  {mode}: {own_wall:.2} s ({:.2} times), processor {own_processor:.2} s ({:.2} times), peak {:.0} MB",
            own_wall / wall,
            own_processor / processor,
            median(&mut figures.peak)
        );
    }
}

fn measure(mode: &str, url: &str, length: usize, registers: u32, into: &mut Figures) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["child", mode, url, &registers.to_string()])
        .env(LENGTH, length.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let [wall, processor, peak] = figures[..] else { panic!("{}", String::from_utf8_lossy(&child.stderr)) };
    into.wall.push(wall);
    into.processor.push(processor);
    into.peak.push(peak);
}

/// The work of one process; prints seconds, seconds of processor time, and the peak of memory in MB.
fn run(mode: &str, url: &str, registers: u32) {
    let started = Instant::now();
    match mode {
        "raw-xml" => raw_xml(url),
        "raw-json" => raw_json(url),
        _ => sync(mode, url, registers),
    }
    let wall = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    let peak: f64 = peak.split_whitespace().next().unwrap_or("0").parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|text| text.parse().unwrap())
        .collect();
    println!("{wall} {} {}", ticks.iter().sum::<f64>() / 100.0, peak / 1e3);
}

fn sync(mode: &str, url: &str, registers: u32) {
    let format = if mode.starts_with("json") { Format::Json } else { Format::Xml };
    let source = Batch::new(url, "key").unwrap().with_suspicious_rows(None).with_format(format);
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn MarkStore> = match mode.ends_with("sqlite") {
        true => Arc::new(SqliteStore::open(folder.path().join("marks.db")).unwrap()),
        false => Arc::new(MemoryStore::new()),
    };
    let sync = AttendanceSync::new(source, store, "school", Rules::new("Europe/London".parse().unwrap()));
    let request = SyncRequest::targeted(window(DAYS));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let report = runtime.block_on(sync.run(request)).unwrap();
    assert_eq!(report.fetched.registrations, STUDENTS * u64::from(registers * DAYS));
    assert_eq!(report.marks.added, STUDENTS * u64::from(2 * DAYS));
}

/// Buffered events, with no work.
fn raw_xml(url: &str) {
    let mut reader = quick_xml::Reader::from_reader(BufReader::new(get(url)));
    let mut buffer = Vec::new();
    while !matches!(reader.read_event_into(&mut buffer).unwrap(), quick_xml::events::Event::Eof) {
        buffer.clear();
    }
}

fn raw_json(url: &str) {
    serde_json::from_reader::<_, serde::de::IgnoredAny>(BufReader::new(get(url))).unwrap();
}

/// The feed's bytes as they arrive.
fn get(url: &str) -> impl Read {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n</Filters>").unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let length: u64 = std::env::var(LENGTH).unwrap().parse().unwrap();
    stream.take(length)
}

fn window(days: u32) -> Window {
    let today: NaiveDate = "2026-11-20".parse().unwrap();
    SyncWindow::default().with_days(days - 1).ending(today)
}

#[derive(Clone, Copy)]
enum Form {
    Plain,
    /// Fields in another order, entities, comments and CDATA.
    Varied,
    Json,
}

fn feed(form: Form, registers: u32) -> Vec<u8> {
    let mut rows = String::new();
    let mut number = 0;
    for date in window(DAYS).from().iter_days().take(DAYS as usize) {
        for slot in 0..registers {
            let minute = 8 * 60 + slot * 480 / registers;
            let (hour, minute) = (minute / 60, minute % 60);
            for student in 0..STUDENTS {
                number += 1;
                let student = 4_733_683_260 + student;
                let period = 50_000 + number % 248;
                let at = format_args!("{date}T{hour:02}:{minute:02}:00");
                let updated = format!("{date}T{hour:02}:59:{:02}.{:03}", number % 60, number % 1000);
                let _ = match form {
                    Form::Plain => write!(
                        rows,
                        "<RegistrationStatus Id=\"{number}\"><PupilId>{student}</PupilId><Registered>1</Registered>\
                         <RegistrationDateTime>{at}</RegistrationDateTime><Alert>0</Alert>\
                         <ParentNotificationSent>0</ParentNotificationSent><Author>STAFF</Author>\
                         <LastUpdated>{updated}</LastUpdated><PeriodId>{period}</PeriodId></RegistrationStatus>"
                    ),
                    Form::Varied => write!(
                        rows,
                        "<RegistrationStatus Id=\"{number}\"><Author>O&apos;Neil &amp; co</Author><!-- a row -->\
                         <LastUpdated>{updated}</LastUpdated> <PeriodId><![CDATA[{period}]]></PeriodId>\n\
                         <RegistrationDateTime>{at}</RegistrationDateTime><Alert>0</Alert><Registered>1</Registered>\
                         <ParentNotificationSent>0</ParentNotificationSent><PupilId>{student}</PupilId></RegistrationStatus>"
                    ),
                    Form::Json => write!(
                        rows,
                        "{}{{\"@Id\":\"{number}\",\"PupilId\":\"{student}\",\"Registered\":\"1\",\
                         \"RegistrationDateTime\":\"{at}\",\"Alert\":\"0\",\"ParentNotificationSent\":\"0\",\
                         \"Author\":\"STAFF\",\"LastUpdated\":\"{updated}\",\"PeriodId\":\"{period}\"}}",
                        if number == 1 { "" } else { "," }
                    ),
                };
            }
        }
    }
    match form {
        Form::Json => format!(
            "{{\"iSAMS\":{{\"RegistrationManager\":{{\"RegistrationStatuses\":{{\"RegistrationStatus\":[{rows}]}},\
             \"OutOfSchoolPupils\":null}}}}}}"
        ),
        _ => format!(
            "<iSAMS><RegistrationManager><RegistrationStatuses>{rows}</RegistrationStatuses><OutOfSchoolPupils />\
             </RegistrationManager></iSAMS>"
        ),
    }
    .into_bytes()
}

/// Answers a request for codes with none, and any other with the feed.
fn serve(feed: Arc<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.ends_with(b"</Filters>") {
                let length = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..length]);
            }
            let request = String::from_utf8_lossy(&request);
            let body: &[u8] = match request.contains("GetRegistrationCodes") {
                true if request.contains("json.ashx") => b"{\"iSAMS\":{\"RegistrationCodes\":null}}",
                true => b"<iSAMS><RegistrationCodes /></iSAMS>",
                false => &feed,
            };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(body);
        }
    });
    url
}

/// The resolver alone, on rows that are parsed already.
fn resolve(rows: u64) {
    let days = (rows / (STUDENTS * u64::from(REGISTERS))).max(1) as u32;
    let window = window(days);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), window);
        let (mut pushed, mut spent) = (0, 0.0);
        for date in window.from().iter_days().take(days as usize) {
            let mut records = Vec::with_capacity((STUDENTS * u64::from(REGISTERS)) as usize);
            for slot in 0..REGISTERS {
                let at = format!("{date}T{:02}:40:00", 8 + slot).parse().unwrap();
                for student in 0..STUDENTS {
                    let id = (pushed + records.len() as u64).to_string();
                    let row =
                        Registration::new((4_733_683_260 + student).to_string(), at).with_id(id).with_last_updated(at);
                    records.push(Record::Registration(row));
                }
            }
            pushed += records.len() as u64;
            let started = Instant::now();
            resolver.extend(records);
            spent += started.elapsed().as_secs_f64();
        }
        let started = Instant::now();
        let register = resolver.finish().unwrap();
        spent += started.elapsed().as_secs_f64();
        assert_eq!(register.students().len() as u64, STUDENTS);
        rates.push(pushed as f64 / spent / 1e6);
    }
    println!("resolve {rows} rows: {:.1} million a second", median(&mut rates));
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
