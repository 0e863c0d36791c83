//! The pages: server-rendered, without scripts, external fonts or anything else from elsewhere.

use chrono::{Datelike, Days, Months, NaiveDate, Weekday};
use maud::{DOCTYPE, Markup, html};
use rollmark::codes::{Class, MarkClass, Settling, Summary};
use rollmark::explain::Diagnosis;
use rollmark::model::{Session, StudentId, clock_text};
use rollmark::support::Verdict;

use crate::{Marks, Office, Portal};

fn page(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                nav aria-label="Pages" { a href="/" { "Office" } }
                main { h1 { (title) } (body) }
            }
        }
    }
}

pub fn problem(message: &str) -> Markup {
    page("This did not work", html! { p role="alert" { (message) } })
}

pub fn month(portal: &Portal, student: &StudentId, summary: &Summary, marks: &Marks) -> Markup {
    let (first, last, sums) = (summary.window().from(), summary.window().to(), summary.total());
    let left_out = [
        ("register not taken", sums.not_taken),
        ("attendance not possible", sums.not_possible),
        ("not counted", sums.not_collected),
        ("code without an agreed meaning", sums.unclassified.values().sum()),
        ("no mark", summary.no_mark().values().sum()),
    ];
    // Weekends are shown only if there was school.
    let days = if marks.keys().any(|(date, _)| date.weekday().num_days_from_monday() > 4) { 7 } else { 5 };
    let weeks = first.week(Weekday::Mon).first_day().iter_weeks().take_while(|monday| *monday <= last);
    let (previous, next) = (first - Months::new(1), first + Months::new(1));
    let body = html! {
        p.figure { @match sums.percentage() { Some(share) => { (share) " %" } None => "No figure yet" } }
        p { "Attended " (sums.attended()) " of " (sums.possible()) " sessions in " (first.format("%B %Y")) "." }
        ul { @for (why, sessions) in left_out.iter().filter(|(_, sessions)| *sessions > 0) {
            li { (sessions) " left out: " (why) }
        } }
        table.month {
            caption { (first.format("%B %Y")) }
            thead { tr { @for day in 0..days {
                @let name = (first.week(Weekday::Mon).first_day() + Days::new(day)).format("%a");
                th scope="col" { (name) }
            } } }
            tbody { @for monday in weeks { tr { @for date in monday.iter_days().take(days as usize) {
                td { @if date.month() == first.month() {
                    time datetime=(date) { (date.day()) }
                    @for session in Session::BOTH { (cell(portal, date, session, marks)) }
                } }
            } } } }
        }
        @if let Some(as_of) = summary.as_of() {
            p { "Choose a mark to see its reason. What is shown can be as old as "
                (clock_text(as_of, portal.rules.zone())) "." }
        }
        nav aria-label="Months" {
            a href=(format!("?month={}", previous.format("%Y-%m"))) { "Previous month" }
            a href=(format!("?month={}", next.format("%Y-%m"))) { "Next month" }
        }
        h2 { "What the shapes mean" }
        ul.legend { @for (shape, letter, words) in LEGEND {
            li { span.mark.(shape) aria-hidden="true" { (letter) } " " (words) }
        } }
    };
    page(&format!("Attendance of student {student}"), body)
}

const LEGEND: [(&str, &str, &str); 6] = [
    ("present", "/\\", "present (/ morning, \\ afternoon), or taught elsewhere"),
    ("late", "L", "late"),
    ("authorised", "M", "authorised absence"),
    ("unauthorised", "O", "unauthorised absence"),
    ("unconfirmed", "?", "not confirmed yet"),
    ("uncounted", "X", "not counted"),
];

/// A mark, and its reason in words when it is chosen.
fn cell(portal: &Portal, date: NaiveDate, session: Session, marks: &Marks) -> Markup {
    let Some((mark, as_of)) = marks.get(&(date, session)) else { return html! {} };
    let class = portal.codes.class_of(&**mark);
    let (shape, there) = match class {
        MarkClass::Of { class: Class::Present, late: true, .. } => ("late", "L"),
        MarkClass::Of { class: Class::Present, .. } => ("present", if session == Session::Am { "/" } else { "\\" }),
        MarkClass::Of { class: Class::ApprovedActivity, .. } => ("present", ""),
        MarkClass::Of { class: Class::Authorised, .. } => ("authorised", ""),
        MarkClass::Of { class: Class::Unauthorised, .. } => ("unauthorised", ""),
        _ => ("uncounted", "–"),
    };
    let letter = mark.code.as_deref().filter(|_| class.class() != Some(Class::Present)).unwrap_or(there);
    let is_settled = Settling::of(mark, *as_of, (portal.now)(), &portal.policy) == Settling::Settled;
    let (shape, letter) = if is_settled { (shape, letter) } else { ("unconfirmed", "?") };
    let words = if is_settled { mark.to_string() } else { "not confirmed yet".to_owned() };
    let (id, name) = (format!("why-{date}-{session}"), format!("{session}, {}: {words}", date.format("%-d %B")));
    html! {
        button.mark.(shape) popovertarget=(id) aria-label=(name) { (letter) }
        div popover id=(id) {
            strong { (name) }
            @if is_settled {
                @if let Some(meaning) = class.meaning() { p { (meaning) "." } }
                p { "Why: " (mark.decision().for_parents(portal.rules.zone())) "." }
            } @else {
                p { "The school has not confirmed this mark yet. Please look again later." }
            }
        }
    }
}

pub fn office(portal: &Portal, office: &Office, students: &[&StudentId]) -> Markup {
    let report = &office.report;
    let clock = |instant| clock_text(instant, portal.rules.zone());
    let open = office.checks.iter().filter(|check| check.verdict != Verdict::Ok);
    let body = html! {
        p { "Read at " (clock(report.fetched_at)) ". It can be as old as " (clock(report.as_of_earliest)) "." }
        form method="post" action="/sync" { button { "Read the registers again" } }
        h2 { "Registers not taken today" }
        @if office.untaken.is_empty() { p { "Every register that was read is taken." } }
        ul { @for register in &office.untaken { li {
            (register.at.format("%H:%M")) @if let Some(session) = register.session { " (" (session) ")" }
            ": not taken for " (register.not_taken) " of " (register.students) " students"
        } } }
        h2 { "What to look at" }
        @if open.clone().next().is_none() { p { "Nothing: all checks are fine." } }
        @else { dl { @for check in open { dt { (check.name) } dd { (check.summary) " " (check.advice) } } } }
        @if !report.withheld.is_empty() { h2 { "Changes that were not made" } }
        ul { @for (reason, changes) in &report.withheld { li { (changes) ": " (reason.name().replace('_', " ")) } } }
        ul { @for advice in &report.advice { li { (advice) } } }
        h2 { "Why is this mark wrong?" }
        form action="/why" {
            label { "Student " input name="student" required; }
            label { "Date " input name="date" type="date" value=(portal.today()) required; }
            label { "Expected code, or / for present " input name="expected" size="3"; }
            button { "Explain" }
        }
        h2 { "Students with marks today" }
        ul.legend { @for student in students { li { a href=(format!("/students/{student}")) { (student) } } } }
    };
    page("Attendance: the office", body)
}

pub fn why(diagnosis: &Diagnosis) -> Markup {
    let body = html! { @for answer in &diagnosis.sessions {
        h2 { (answer.session) ": " @match &answer.mark { Some(mark) => (mark), None => "no mark" } }
        @for finding in &answer.findings { p { strong { (finding.summary) } " " (finding.advice) } }
    } };
    page(&format!("Student {}, {}", diagnosis.student, diagnosis.date), body)
}
