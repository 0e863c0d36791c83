//! The diagnosis as one page of HTML that needs nothing else, prints well, and works without colour.

use chrono::{Days, NaiveDateTime, NaiveTime, Timelike};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use rollmark::explain::{DayRecord, Diagnosis, SessionDiagnosis};
use rollmark::model::{Session, Zone, clock_text};
use rollmark::rules::{PmRule, Rules};
use rollmark::store::Change;

use super::table::{name, role, says, updated, when};
use crate::output::plain;

/// Widths and heights of the drawing, in SVG units.
const LABELS: f64 = 240.0;
const DAY: f64 = 590.0;
const ROW: f64 = 34.0;
const TOP: f64 = 30.0;
/// Letters of a label that have room; the table names each record in full.
const LABEL_LETTERS: usize = 34;
/// More records than this have no room on one printed page.
const ONE_PAGE: usize = 20;
/// Room for "decides AM and PM".
const WORDS: f64 = 130.0;

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; color: #111; max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 2px solid #111; padding-top: .6rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; } p, li, .record { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; margin: .8rem 0; }
th, td { border: 1px solid #999; padding: .2rem .5rem; text-align: left; vertical-align: top; }
.first { border: 2px solid #111; padding: .2rem .8rem; } li { margin: .6rem 0; }
section > svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #111; }
.grid { stroke: #ccc; } .boundary { stroke: #111; stroke-width: 1.5; stroke-dasharray: 5 4; }
.span { fill: #fff; stroke: #111; stroke-width: 1.5; } .register { fill: #fff; stroke: #111; stroke-width: 1.5; }
.winner { fill: #111; } svg text.inside { fill: #fff; } .advice::before { content: \"What to do: \"; font-weight: 600; }
@media print { body { margin: 0; max-width: none; } h2, svg:not(.long), li, tr { break-inside: avoid; } }";

/// The diagnosis of one complaint, and what the store has shown.
pub fn page(rules: &Rules, complaint: &str, diagnosis: &Diagnosis, history: &[(Session, Change)]) -> String {
    let zone = rules.zone();
    let body = html! {
        h1 { "Why this mark?" }
        section {
            h2 { (complaint) }
            p { "Student " (diagnosis.student) ", " (diagnosis.date.format("%A %-d %B %Y")) ", school time " (zone) "." }
            @if diagnosis.day.is_empty() {
                p { "Nothing of this student and date was read." }
            } @else {
                (drawing(diagnosis, rules))
                (records(diagnosis, zone))
            }
            @for answer in &diagnosis.sessions { (session(answer, zone)) }
            @if !history.is_empty() { (changes(history, zone)) }
        }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Why this mark?" }
                style { (PreEscaped(STYLE)) }
            }
            // Ids and codes come from outside, and could turn the direction of a line. The body has no line feeds of its own.
            body { (PreEscaped(plain(&body.into_string()))) }
        }
    };
    page.into_string()
}

fn session(answer: &SessionDiagnosis, zone: &Zone) -> Markup {
    html! {
        h3 {
            (answer.session) ": "
            @match &answer.mark { Some(mark) => (mark), None => "no mark" }
        }
        @if let Some(mark) = &answer.mark { p { (capitalised(&mark.decision.in_school_time(zone))) "." } }
        ol {
            @for (number, finding) in answer.findings.iter().enumerate() {
                li class=[(number == 0).then_some("first")] {
                    (for_office(&finding.summary))
                    br; span class="advice" { (for_office(&finding.advice)) }
                }
            }
        }
    }
}

/// The sentence in words of an office that prints the page and syncs nothing itself.
fn for_office(text: &str) -> String {
    let text = text.replace("; then sync.", "; the portal shows it after the next sync.");
    let text = text.replace("The source ", "The management system ").replace("the source ", "the management system ");
    text.replace("The store ", "The portal ").replace("the store ", "the portal ")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn records(diagnosis: &Diagnosis, zone: &Zone) -> Markup {
    html! {
        table {
            tr {
                th { "When" } th { "Record" } th { "Says" } th { "Updated" }
                @for answer in &diagnosis.sessions { th { (answer.session) } }
            }
            @for record in &diagnosis.day {
                tr {
                    td { (when(record, diagnosis.date)) } td class="record" { (name(record)) } td { (says(record)) }
                    td { (updated(record, zone)) }
                    @for answer in &diagnosis.sessions { td { (role(record, answer)) } }
                }
            }
        }
    }
}

fn changes(history: &[(Session, Change)], zone: &Zone) -> Markup {
    let shown = |mark: Option<String>| mark.unwrap_or("no mark".to_owned());
    html! {
        h3 { "What the portal has shown" }
        table {
            tr { th { "Session" } th { "Since" } th { "Before" } th { "After" } }
            @for (session, change) in history {
                tr {
                    td { (session) } td { (clock_text(change.seen_at, zone)) }
                    td { (shown(change.before.as_ref().map(ToString::to_string))) }
                    td { (shown(change.after.as_ref().map(ToString::to_string))) }
                }
            }
        }
    }
}

/// Part of the day as hours after midnight, whole hours at both ends.
struct Scale {
    first: u32,
    last: u32,
}

impl Scale {
    /// From 08:00 to 16:00, or as far as the day's registers reach.
    fn of(diagnosis: &Diagnosis) -> Self {
        let registers = diagnosis.day.iter().filter(|record| record.to.is_none()).map(|record| record.from.hour());
        let (mut first, mut last) = (8, 16);
        for hour in registers {
            (first, last) = (first.min(hour), last.max(hour + 1));
        }
        Self { first, last }
    }

    fn x(&self, hours: f64) -> f64 {
        let within = hours.clamp(self.first.into(), self.last.into()) - f64::from(self.first);
        LABELS + DAY * within / f64::from(self.last - self.first)
    }

    fn of_time(&self, time: NaiveTime) -> f64 {
        self.x(f64::from(time.num_seconds_from_midnight()) / 3600.0)
    }

    /// A moment of this date or another, which is drawn at the edge.
    fn of_moment(&self, moment: NaiveDateTime, date: chrono::NaiveDate) -> f64 {
        let midnight = date.and_time(NaiveTime::MIN);
        let next = midnight.checked_add_days(Days::new(1)).unwrap_or(midnight);
        self.x((moment.clamp(midnight, next) - midnight).num_seconds() as f64 / 3600.0)
    }
}

/// The day to scale: one line for each record, the session boundary, and the winners filled.
fn drawing(diagnosis: &Diagnosis, rules: &Rules) -> Markup {
    let scale = Scale::of(diagnosis);
    let height = TOP + ROW * diagnosis.day.len() as f64 + 8.0;
    let y = |line: usize| TOP + ROW * (line as f64 + 0.5);
    html! {
        svg class=[(diagnosis.day.len() > ONE_PAGE).then_some("long")] viewBox=(format!("0 0 {} {height}", LABELS + DAY + 20.0)) role="img" aria-label="The day's registers and out-of-school records" {
            @for hour in scale.first..=scale.last {
                @let x = scale.x(hour.into());
                line class="grid" x1=(x) x2=(x) y1=(TOP - 8.0) y2=(height) {}
                text x=(x) y=(TOP - 14.0) text-anchor="middle" { (format!("{hour:02}")) }
            }
            @if let PmRule::FirstFrom(start) = rules.pm() {
                @let x = scale.of_time(start);
                line class="boundary" x1=(x) x2=(x) y1=(TOP - 8.0) y2=(height) {}
                text x=(x + 4.0) y=(height - 2.0) { "PM from " (start.format(if start.second() == 0 { "%H:%M" } else { "%H:%M:%S" })) }
            }
            @for (line, record) in diagnosis.day.iter().enumerate() {
                // A drawing in the drawing cuts off what has no room.
                svg x="0" y=(y(line) - ROW / 2.0) width=(LABELS - 12.0) height=(ROW) {
                    text x="0" y=(ROW / 2.0 + 4.0) { (label(record)) }
                }
                (shape(record, diagnosis, &scale, y(line)))
            }
        }
    }
}

fn label(record: &DayRecord) -> String {
    let label = format!("{}: {}", name(record), says(record));
    if label.chars().count() <= LABEL_LETTERS {
        return label;
    }
    label.chars().take(LABEL_LETTERS - 1).chain(['…']).collect()
}

fn shape(record: &DayRecord, diagnosis: &Diagnosis, scale: &Scale, y: f64) -> Markup {
    let won: Vec<&str> = diagnosis
        .sessions
        .iter()
        .filter(|answer| answer.contenders.iter().any(|one| one.why.is_none() && one.record == *record))
        .map(|answer| answer.session.name())
        .collect();
    let winner = if won.is_empty() { "" } else { "winner" };
    let from = scale.of_moment(record.from, diagnosis.date);
    let to = record.to.map_or(from, |to| scale.of_moment(to, diagnosis.date));
    // The words stand in a bar that is long enough, else after the shape, or before it near the right edge.
    let (x, anchor, place) = if to - from > WORDS {
        (from + 8.0, "start", "inside")
    } else if to + WORDS > LABELS + DAY {
        (from - 12.0, "end", "")
    } else {
        (to + 12.0, "start", "")
    };
    html! {
        @if record.to.is_some() {
            rect class={ "span " (winner) } x=(from) y=(y - 8.0) width=((to - from).max(2.0)) height="16" {}
        } @else {
            circle class={ "register " (winner) } cx=(from) cy=(y) r="7" {}
        }
        @if !won.is_empty() {
            text class=(place) x=(x) y=(y + 4.0) text-anchor=(anchor) { "decides " (won.join(" and ")) }
        }
    }
}
