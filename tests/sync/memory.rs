//! How much memory a sync takes at its peak: for marks, not for rows. Each is measured in a process of its own, which reads it
//! from the kernel (Linux).

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use chrono::NaiveDate;
use rollmark::isams::Batch;
use rollmark::rules::{Rules, SyncWindow, Window};
use rollmark::store::{MarkStore, MemoryStore, SqliteStore};
use rollmark::sync::{AttendanceSync, SyncRequest};

use crate::common::tenant::serving;

const STUDENTS: u64 = 600;
/// The most bytes for each mark, everything counted, by store.
const MOST: [(&str, u64); 2] = [("memory", 600), ("sqlite", 500)];
/// Store, days, and registers a day of the process that is measured.
const FEED: &str = "ROLLMARK_MEASURED_FEED";

fn window(days: u32) -> Window {
    SyncWindow::default().with_days(days - 1).ending("2026-11-20".parse().unwrap())
}

/// A feed, written as it goes: whoever measures does not hold it.
fn write_feed(stream: &mut TcpStream, dates: impl Iterator<Item = NaiveDate>, registers: u32) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<iSAMS><RegistrationStatuses>")?;
    let mut number = 0;
    for date in dates {
        for register in 0..registers {
            let mut rows = String::new();
            // Half of them in the morning.
            let hour = if register < registers / 2 { 8 + register } else { 13 + register - registers / 2 };
            for student in 0..STUDENTS {
                number += 1;
                rows.push_str(&format!(
                    "<RegistrationStatus Id=\"{number}\"><PupilId>{}</PupilId><Registered>1</Registered>\
                     <RegistrationDateTime>{date}T{hour:02}:40:00</RegistrationDateTime><LastUpdated>{date}T18:00:00</LastUpdated>\
                     <PeriodId>{}</PeriodId></RegistrationStatus>",
                    4_733_683_260 + student,
                    50_000 + number % 248
                ));
            }
            stream.write_all(rows.as_bytes())?;
        }
    }
    stream.write_all(b"</RegistrationStatuses><OutOfSchoolPupils /></iSAMS>")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measured by the other test, in a process of its own"]
async fn a_sync_to_measure() {
    let feed = std::env::var(FEED).unwrap_or("memory 1 2".to_owned());
    let [store, days, registers] = feed.split(' ').collect::<Vec<_>>()[..] else { panic!("{feed}") };
    let (days, registers): (u32, u32) = (days.parse().unwrap(), registers.parse().unwrap());
    let url = serving(move |stream, request| {
        let written = match request.contains("GetRegistrationCodes") {
            true => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<iSAMS><RegistrationCodes /></iSAMS>")
            }
            false => write_feed(stream, window(days).from().iter_days().take(days as usize), registers),
        };
        written.unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn MarkStore> = match store {
        "sqlite" => Arc::new(SqliteStore::open(folder.path().join("marks.db")).unwrap()),
        _ => Arc::new(MemoryStore::new()),
    };
    let source = Batch::new(&url, "key").unwrap().with_suspicious_rows(None);
    let sync = AttendanceSync::new(source, store, "school", Rules::new("Europe/London".parse().unwrap()));
    let report = sync.run(SyncRequest::targeted(window(days))).await.unwrap();
    assert_eq!(report.fetched.registrations, STUDENTS * u64::from(days * registers));
    assert_eq!(report.marks.added, STUDENTS * u64::from(days) * 2);
    // What the store holds is in memory then too.
    let again = sync.run(SyncRequest::targeted(window(days))).await.unwrap();
    assert_eq!(again.marks.unchanged, STUDENTS * u64::from(days) * 2);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("\npeak {}", peak.trim());
}

/// In bytes.
fn peak_of(store: &str, days: u32, registers: u32) -> u64 {
    let measured = Command::new(std::env::current_exe().unwrap())
        .args(["memory::a_sync_to_measure", "--exact", "--ignored", "--nocapture"])
        .env(FEED, format!("{store} {days} {registers}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&measured.stdout);
    let peak = text.lines().find_map(|line| line.strip_prefix("peak ")?.strip_suffix(" kB"));
    let peak: u64 =
        peak.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&measured.stderr))).parse().unwrap();
    peak * 1024
}

#[test]
fn two_syncs_hold_little_of_each_mark_and_nothing_of_other_rows() {
    for (store, most) in MOST {
        let (few, many, long) = (peak_of(store, 1, 2), peak_of(store, 31, 2), peak_of(store, 31, 6));
        let marks = STUDENTS * 30 * 2;
        let of_each = many.saturating_sub(few) / marks;
        assert!(of_each <= most, "{store}: {of_each} bytes for each mark ({few} for few, {many} for many)");
        assert!(long * 10 <= many * 11, "{store}: {long} bytes for three times the rows of {many}");
    }
}
