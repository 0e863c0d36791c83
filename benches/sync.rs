//! What a whole sync costs beside looking at the bytes of its feed: `cargo bench --bench sync`.
//!
//! Every figure is a whole process's, over a loopback connection, and every baseline is measured in the same run, since only
//! the ratios travel from machine to machine. Processor times and the peak of memory are Linux's.

use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{NaiveDate, TimeDelta, Utc};
use rollmark::isams::{Batch, Format};
use rollmark::model::{Record, Registration};
use rollmark::rules::{Freshness, Resolver, Rules, SyncWindow, Window};
use rollmark::source::{FetchRequest, read_all};
use rollmark::store::{ChangeSet, MarkStore, MemoryStore, Run, SqliteStore, Write as MarkWrite};
use rollmark::sync::{AttendanceSync, Guards, Plan, SyncEvent, SyncRequest};

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
    for (name, form, registers, baseline, modes) in [
        (
            "plain",
            Form::Plain,
            REGISTERS,
            "raw-xml",
            &["xml", "xml-twice", "xml-sqlite", "xml-sqlite-twice", "serde-xml"][..],
        ),
        ("varied", Form::Varied, REGISTERS, "raw-xml", &["xml"]),
        ("long", Form::Plain, 3 * REGISTERS, "raw-xml", &["xml", "xml-sqlite"]),
        ("json", Form::Json, REGISTERS, "raw-json", &["json", "serde-json"]),
    ] {
        if is_wanted(name) {
            let feed = feed(form, registers);
            let length = feed.len();
            println!("a feed of {:.0} MB, {name}", length as f64 / 1e6);
            compare(baseline, modes, &serve(feed, Sending::AtOnce), length, registers);
        }
    }
    if is_wanted("gzip") {
        let feed = feed(Form::Plain, REGISTERS);
        let length = feed.len();
        println!("a feed of {:.0} MB, compressed", length as f64 / 1e6);
        // The baseline takes it as it is.
        compare("raw-xml", &["xml"], &serve(feed, Sending::Compressed), length, REGISTERS);
    }
    if is_wanted("slow") {
        let feed = feed(Form::Plain, REGISTERS);
        let length = feed.len();
        println!("a feed of {:.0} MB, sent at {:.0} MB a second", length as f64 / 1e6, PACE / 1e6);
        compare("download", &["xml"], &serve(feed, Sending::Paced), length, REGISTERS);
    }
    if is_wanted("again") {
        again();
    }
    if is_wanted("years") {
        years();
    }
    for rows in [10_000, 100_000, 1_000_000, 3_000_000].into_iter().filter(|_| is_wanted("resolve")) {
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
    println!("  {baseline}: {wall:.2} s, processor {processor:.2} s, peak {:.0} MB", median(&mut base.peak));
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
        "download" => drop(std::io::copy(&mut get(url), &mut std::io::sink()).unwrap()),
        "serde-xml" => by_hand::marks::<by_hand::Xml>(get(url), |text| quick_xml::de::from_str(text).unwrap()),
        "serde-json" => by_hand::marks::<by_hand::Json>(get(url), |text| serde_json::from_str(text).unwrap()),
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
    let folder = tempfile::tempdir().unwrap();
    let sync = syncing(url, format, store(mode.contains("sqlite"), &folder));
    let report = runtime().block_on(sync.run(SyncRequest::targeted(window(DAYS)))).unwrap();
    assert_eq!(report.fetched.registrations, STUDENTS * u64::from(registers * DAYS));
    assert_eq!(report.marks.added, STUDENTS * u64::from(2 * DAYS));
    if mode.ends_with("twice") {
        let report = runtime().block_on(sync.run(SyncRequest::targeted(window(DAYS)))).unwrap();
        assert_eq!(report.marks.unchanged, STUDENTS * u64::from(2 * DAYS));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

fn store(is_sqlite: bool, folder: &tempfile::TempDir) -> Arc<dyn MarkStore> {
    match is_sqlite {
        true => Arc::new(SqliteStore::open(folder.path().join("marks.db")).unwrap()),
        false => Arc::new(MemoryStore::new()),
    }
}

fn rules() -> Rules {
    Rules::new("Europe/London".parse().unwrap())
}

fn syncing(url: &str, format: Format, store: Arc<dyn MarkStore>) -> AttendanceSync {
    let source = Batch::new(url, "key").unwrap().with_suspicious_rows(None).with_format(format);
    AttendanceSync::new(source, store, "school", rules())
}

/// What planning a second, identical sync costs beside reading its feed: alone, and with what the store holds.
fn again() {
    let url = serve(feed(Form::Plain, REGISTERS), Sending::AtOnce);
    for name in ["memory", "sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let held = store(name == "sqlite", &folder);
        let times = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&times);
        let sync = syncing(&url, Format::Xml, Arc::clone(&held)).with_listener(move |_, event| {
            if !matches!(event, SyncEvent::Read { .. }) {
                noted.lock().unwrap().push(Instant::now());
            }
        });
        let (mut reading, mut planning, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            times.lock().unwrap().clear();
            let report = runtime().block_on(sync.run(SyncRequest::targeted(window(DAYS)))).unwrap();
            let [started, resolved, planned, _] = times.lock().unwrap()[..] else { panic!("other events") };
            if round > 0 {
                assert_eq!(report.marks.unchanged, STUDENTS * u64::from(2 * DAYS));
                reading.push((resolved - started).as_secs_f64());
                planning.push((planned - resolved).as_secs_f64());
            }
        }
        let source = Batch::new(&url, "key").unwrap().with_suspicious_rows(None);
        let request = FetchRequest::new(window(DAYS));
        let read = read_all(&source, &request, || Resolver::new(rules(), window(DAYS)));
        let register = runtime().block_on(read).unwrap().0.finish().unwrap();
        let snapshot = runtime().block_on(held.read(&"school".into(), &window(DAYS).into())).unwrap();
        for _ in 0..ROUNDS {
            let freshness = Freshness::new(Utc::now(), TimeDelta::hours(24));
            let started = Instant::now();
            let plan = Plan::new(&snapshot, &register, freshness, 0, &Guards::default()).unwrap();
            alone.push(started.elapsed().as_secs_f64());
            assert_eq!(plan.counts.unchanged, STUDENTS * u64::from(2 * DAYS));
        }
        let (reading, planning, alone) = (median(&mut reading), median(&mut planning), median(&mut alone));
        let percent = |part: f64| part / reading * 100.0;
        println!(
            "again, {name}: reading {reading:.3} s, planning {alone:.3} s ({:.1} %), with the store's answer {planning:.3} s \
             ({:.1} %)",
            percent(alone),
            percent(planning)
        );
    }
}

/// What ten years of nights cost a sync: runs, and a history of marks that changed.
fn years() {
    const NIGHTS: u64 = 3_650;
    let url = serve(feed_of(Form::Plain, REGISTERS, 1), Sending::AtOnce);
    for name in ["memory", "sqlite"] {
        let mut spent = Vec::new();
        for nights in [0, NIGHTS] {
            let folder = tempfile::tempdir().unwrap();
            let store = store(name == "sqlite", &folder);
            let runtime = runtime();
            for night in 0..nights {
                let fetched_at = Utc::now() - TimeDelta::days((nights - night) as i64);
                let date = fetched_at.date_naive();
                let mut resolver = Resolver::new(rules(), Window::day(date));
                for student in 0..20 {
                    let at = format!("{date}T08:40:00").parse().unwrap();
                    resolver.push(Record::Registration(Registration::new(student.to_string(), at)));
                }
                let writes = resolver.finish().unwrap().marks().map(|mark| MarkWrite::Put(Arc::new(mark))).collect();
                let run = Run::new(Freshness::new(fetched_at, TimeDelta::hours(24)), Window::day(date).into(), rules());
                let changes = ChangeSet::new(night, run).with_writes(writes);
                runtime.block_on(store.apply(&"school".into(), &changes)).unwrap();
            }
            let sync = syncing(&url, Format::Xml, store);
            let mut times = Vec::new();
            for _ in 0..=2 * ROUNDS {
                let started = Instant::now();
                runtime.block_on(sync.run(SyncRequest::targeted(window(1)))).unwrap();
                times.push(started.elapsed().as_secs_f64());
            }
            spent.push(median(&mut times));
        }
        let (without, with) = (spent[0], spent[1]);
        println!(
            "years, {name}: {:.1} ms without a history, {:.1} ms after {NIGHTS} runs ({:.2} times)",
            without * 1e3,
            with * 1e3,
            with / without
        );
    }
}

/// What people would write instead: the whole reply into structs, and the earliest of each half-day in a map.
mod by_hand {
    use std::collections::HashMap;
    use std::io::Read;

    use chrono::{NaiveDate, NaiveDateTime, Timelike};
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    pub struct Row {
        #[serde(rename = "@Id")]
        id: String,
        pupil_id: String,
        registered: String,
        registration_date_time: NaiveDateTime,
        last_updated: Option<NaiveDateTime>,
        period_id: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    pub struct Manager {
        registration_statuses: Statuses,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Statuses {
        registration_status: Vec<Row>,
    }

    #[derive(Deserialize)]
    pub struct Xml {
        #[serde(rename = "RegistrationManager")]
        manager: Manager,
    }

    #[derive(Deserialize)]
    pub struct Json {
        #[serde(rename = "iSAMS")]
        reply: Xml,
    }

    impl From<Json> for Xml {
        fn from(json: Json) -> Self {
            json.reply
        }
    }

    pub fn marks<T: Into<Xml>>(mut body: impl Read, parse: impl FnOnce(&str) -> T) {
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        let reply: Xml = parse(&text).into();
        let mut marks: HashMap<(String, NaiveDate, bool), Row> = HashMap::new();
        for row in reply.manager.registration_statuses.registration_status {
            let at = row.registration_date_time;
            let key = (row.pupil_id.clone(), at.date(), at.hour() < 12);
            if marks.get(&key).is_none_or(|known| at < known.registration_date_time) {
                marks.insert(key, row);
            }
        }
        let present = marks.values().filter(|row| row.registered == "1" && !row.id.is_empty());
        let known = present.filter(|row| row.last_updated.is_some() && row.period_id.is_some());
        assert_eq!(known.count() as u64, super::STUDENTS * u64::from(2 * super::DAYS));
    }
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
    feed_of(form, registers, DAYS)
}

fn feed_of(form: Form, registers: u32, days: u32) -> Vec<u8> {
    let mut rows = String::new();
    let mut number = 0;
    for date in window(days).from().iter_days().take(days as usize) {
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

/// How a tenant sends its feed.
#[derive(Clone, Copy)]
enum Sending {
    AtOnce,
    /// With gzip, to those who accept it.
    Compressed,
    /// At so many bytes a second: [`PACE`].
    Paced,
}

const PACE: f64 = 50e6;

/// Answers a request for codes with none, and any other with the feed.
fn serve(feed: Vec<u8>, sending: Sending) -> String {
    let compressed = matches!(sending, Sending::Compressed).then(|| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&feed).unwrap();
        encoder.finish().unwrap()
    });
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
            let compressed = compressed.as_ref().filter(|_| request.to_lowercase().contains("accept-encoding: gzip"));
            let (body, encoding): (&[u8], &str) = match request.contains("GetRegistrationCodes") {
                true if request.contains("json.ashx") => (b"{\"iSAMS\":{\"RegistrationCodes\":null}}", "identity"),
                true => (b"<iSAMS><RegistrationCodes /></iSAMS>", "identity"),
                false => compressed.map_or((&feed, "identity"), |feed| (feed, "gzip")),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Encoding: {encoding}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let started = Instant::now();
            let mut sent = 0;
            for chunk in body.chunks(64 << 10) {
                sent += chunk.len();
                if matches!(sending, Sending::Paced) {
                    let due = Duration::from_secs_f64(sent as f64 / PACE);
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                }
                if stream.write_all(chunk).is_err() {
                    break;
                }
            }
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
