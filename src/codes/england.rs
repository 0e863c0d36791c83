//! The codes of England (see the module page).

use chrono::NaiveDate;

use super::Class::{self, ApprovedActivity, Authorised, NotCollected, NotPossible, Present, Unauthorised};
use super::CodeRow;
use super::CodeSource::{self, Dfe, LawAndDfe, TwoDocuments};

pub(super) const EDITION: &str = "England, August 2024";

type Row = (&'static str, &'static str, Class, CodeSource);

/// In force from 19 August 2024.
const CODES: [Row; 34] = [
    ("/", "Present, morning session", Present, LawAndDfe),
    ("\\", "Present, afternoon session", Present, LawAndDfe),
    ("L", "Late, before the register closed", Present, LawAndDfe),
    ("K", "Attending education provision arranged by the local authority", ApprovedActivity, LawAndDfe),
    ("V", "Educational visit or trip", ApprovedActivity, LawAndDfe),
    ("P", "Sporting activity", ApprovedActivity, LawAndDfe),
    ("W", "Work experience", ApprovedActivity, Dfe),
    ("B", "Any other approved educational activity", ApprovedActivity, Dfe),
    ("C1", "Leave: regulated performance or regulated employment abroad", Authorised, Dfe),
    ("M", "Medical or dental appointment", Authorised, Dfe),
    ("J1", "Leave: interview for employment or another school", Authorised, Dfe),
    ("S", "Study leave for a public examination", Authorised, Dfe),
    ("C2", "Leave: part-time timetable, of compulsory school age", Authorised, Dfe),
    ("C", "Leave: exceptional circumstances", Authorised, Dfe),
    ("T", "Mobile child: parent travelling for trade or business", Authorised, Dfe),
    ("R", "Religious observance", Authorised, Dfe),
    ("I", "Illness", Authorised, Dfe),
    ("E", "Suspended or permanently excluded, no provision made", Authorised, Dfe),
    ("G", "Holiday not granted", Unauthorised, Dfe),
    ("N", "Reason not yet established (to be replaced within 5 school days)", Unauthorised, Dfe),
    ("O", "Absent, other or unknown circumstances", Unauthorised, Dfe),
    ("U", "Late, after the register closed", Unauthorised, Dfe),
    ("D", "Attending another school where also registered", NotPossible, TwoDocuments),
    ("X", "Not of compulsory school age and not required to attend", NotPossible, TwoDocuments),
    ("Q", "Unable: no access arrangements made by the local authority", NotPossible, TwoDocuments),
    ("Y1", "Unable: transport", NotPossible, TwoDocuments),
    ("Y2", "Unable: travel disruption", NotPossible, TwoDocuments),
    ("Y3", "Unable: part of the premises closed", NotPossible, TwoDocuments),
    ("Y4", "Unable: whole site unexpectedly closed", NotPossible, TwoDocuments),
    ("Y5", "Unable: in criminal justice detention", NotPossible, TwoDocuments),
    ("Y6", "Unable: public health", NotPossible, TwoDocuments),
    ("Y7", "Unable: other unavoidable cause", NotPossible, TwoDocuments),
    ("Z", "Prospective pupil, not on the admission register", NotCollected, TwoDocuments),
    ("#", "Planned whole-school closure", NotCollected, TwoDocuments),
];

/// In force until 18 August 2024, with the code to use since then.
const RETIRED: [(Row, &str); 3] = [
    (("H", "Holiday granted", Authorised, Dfe), "C"),
    (("J", "At an interview", ApprovedActivity, Dfe), "J1"),
    (("Y", "Unable to attend", NotPossible, Dfe), "Y1 to Y7"),
];

pub(super) fn rows() -> impl Iterator<Item = CodeRow> {
    let row = |(code, meaning, class, source): Row| {
        CodeRow::new(code, meaning, class)
            .with_late(matches!(code, "L" | "U"))
            .with_note(matches!(code, "B" | "K" | "Y7"))
            .with_source(source)
    };
    let changed = NaiveDate::from_ymd_opt(2024, 8, 19).unwrap_or_default();
    let eve = changed.pred_opt().unwrap_or_default();
    let retired = RETIRED.into_iter().map(move |(code, now)| row(code).with_valid_until(eve).with_replaced_by(now));
    CODES.into_iter().map(move |code| row(code).with_valid_from(changed)).chain(retired)
}
