//! What a school's year adds up to, beside a walk over the same marks: `cargo bench --no-default-features --bench codes`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate};
use rollmark::codes::{CodeTable, CodedMark, Part, Summary};
use rollmark::model::{Session, Status, StudentId};
use rollmark::rules::Window;

const ROUNDS: usize = 5;
const STUDENTS: usize = 1_500;
const DAYS: u64 = 190;

fn main() {
    let first: NaiveDate = "2025-09-01".parse().unwrap();
    let window = Window::between(first, first + Days::new(DAYS - 1)).unwrap();
    let students: Vec<StudentId> = (0..STUDENTS).map(|number| format!("47336{number:05}").into()).collect();
    let mut marks = Vec::new();
    for (number, student) in students.iter().enumerate() {
        for (place, date) in first.iter_days().take(DAYS as usize).enumerate() {
            for session in Session::BOTH {
                marks.push(match (number * 31 + place * 17) % 67 {
                    0 => CodedMark::new(student, date, session, Status::Absent).with_code("M"),
                    1 => CodedMark::new(student, date, session, Status::NotRequired).with_code("V"),
                    2 => CodedMark::new(student, date, session, Status::Late),
                    _ => CodedMark::new(student, date, session, Status::Present),
                });
            }
        }
    }
    let table = CodeTable::england();
    let walk = median(|| marks.iter().filter(|mark| window.contains(mark.date)).count());
    println!("{} marks; a walk over them: {walk:?}", marks.len());
    let whole = median(|| Summary::of(&table, window, marks.iter().copied()));
    println!("a summary of the range: {whole:?}");
    let weeks = median(|| Summary::by_part(&table, window, Part::Week, marks.iter().copied()));
    println!("a summary of each week: {weeks:?}");
}

fn median<T>(work: impl Fn() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            black_box(work());
            started.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}
