//! One request to the Batch API: what it asks for, how it is cut into smaller ones, and when its reply is accepted.

use std::fmt::Write;

use chrono::{Days, NaiveDate};

use super::vocabulary::{container_name, method_of};
use crate::source::{FetchedKind, SourceError, SourceErrorKind};

/// In which form the Batch API answers; the data are the same (verified).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `xml.ashx`
    #[default]
    Xml,
    /// `json.ashx`
    Json,
}

/// One request: which kinds, over which dates.
#[derive(Clone, Debug)]
pub(super) struct BatchRequest {
    pub(super) kinds: Vec<FetchedKind>,
    pub(super) from: NaiveDate,
    pub(super) to: NaiveDate,
    /// How many days earlier out-of-school records are asked for.
    pub(super) look_back: u32,
}

impl BatchRequest {
    pub(super) fn start_of(&self, kind: FetchedKind) -> NaiveDate {
        let days = if kind == FetchedKind::OutOfSchool { self.look_back } else { 0 };
        self.from.checked_sub_days(Days::new(days.into())).unwrap_or(self.from)
    }

    /// How many days are asked for.
    pub(super) fn days(&self, kind: FetchedKind) -> u64 {
        (self.to - self.start_of(kind)).num_days().unsigned_abs() + 1
    }

    /// The parts to ask for instead; none of a single day.
    fn split(&self) -> Vec<Self> {
        let mut parts = self.look_back_part();
        let days = (self.to - self.from).num_days();
        if days > 0 {
            let middle = self.from + chrono::TimeDelta::days(days / 2);
            let second = middle.succ_opt().unwrap_or(self.to);
            for (from, to) in [(self.from, middle), (second, self.to)] {
                parts.push(Self { kinds: self.kinds.clone(), from, to, look_back: 0 });
            }
        } else if !parts.is_empty() {
            parts.push(Self { look_back: 0, ..self.clone() });
        }
        parts
    }

    /// The same in slices of this many days.
    pub(super) fn slices(&self, days: u32) -> Vec<Self> {
        let mut parts = self.look_back_part();
        let mut from = self.from;
        while from <= self.to {
            let last = from.checked_add_days(Days::new(u64::from(days.max(1)) - 1)).unwrap_or(self.to);
            let to = last.min(self.to);
            parts.push(Self { kinds: self.kinds.clone(), from, to, look_back: 0 });
            let Some(next) = to.succ_opt() else { break };
            from = next;
        }
        parts
    }

    /// The days before the range, as a separate part.
    fn look_back_part(&self) -> Vec<Self> {
        if self.look_back == 0 || !self.kinds.contains(&FetchedKind::OutOfSchool) {
            return Vec::new();
        }
        let to = self.from.pred_opt().unwrap_or(self.from);
        let from = self.start_of(FetchedKind::OutOfSchool);
        vec![Self { kinds: vec![FetchedKind::OutOfSchool], from, to, look_back: 0 }]
    }

    /// What the counts of a complete reply say of it: the requests to make instead where it looks cut; none where it is whole.
    ///
    /// # Errors
    /// A container is missing, or one looks cut that can't be asked for in smaller parts.
    pub(super) fn accept(
        &self,
        rows: &[(FetchedKind, u64)],
        format: Format,
        suspicious_rows: Option<u64>,
    ) -> Result<Vec<Self>, SourceError> {
        // In JSON an empty container can be left out (verified), so it looks the same as one that is missing.
        let must_be_there = if format == Format::Xml { &*self.kinds } else { &[] };
        if let Some(missing) = must_be_there.iter().find(|kind| !rows.iter().any(|(found, _)| found == *kind)) {
            let cure = match missing {
                FetchedKind::Codes => {
                    "let the API key read the code table, or say that there is none (--no-code-table, with_code_table)"
                }
                _ => "check the key's methods",
            };
            let container = container_name(*missing);
            return Err(SourceError::new(
                SourceErrorKind::Incomplete,
                format!("the reply has no {container}, although the {missing} were asked for; {cure}"),
            ));
        }
        let cut = rows.iter().filter(|(_, rows)| *rows > 0 && suspicious_rows == Some(*rows));
        // The code table first: it can't be asked for in parts.
        let Some((kind, rows)) = cut.max_by_key(|(kind, _)| *kind == FetchedKind::Codes) else { return Ok(Vec::new()) };
        let parts = self.split();
        if *kind != FetchedKind::Codes && !parts.is_empty() {
            return Ok(parts);
        }
        let what = match kind {
            FetchedKind::Codes => "the code table".to_owned(),
            _ => format!("the reply for {}", self.from),
        };
        Err(SourceError::new(
            SourceErrorKind::Incomplete,
            format!(
                "{what} has exactly {rows} rows in {}, at which iSAMS may cut; if there really are that many, set suspicious_rows \
                 to another number, or to none",
                container_name(*kind)
            ),
        ))
    }

    /// The end date is taken for exclusive (assumed).
    pub(super) fn body(&self) -> String {
        let end = self.to.succ_opt().unwrap_or(self.to);
        let method = |kind: &FetchedKind| {
            let method = method_of(*kind)?;
            Some((method.name, method.filter.map(|filter| (filter, self.start_of(*kind), end))))
        };
        body(self.kinds.iter().filter_map(method))
    }
}

/// The documented body (verified): methods, each with its filter element, start date and end date.
pub(super) fn body<'a>(asked: impl Iterator<Item = (&'a str, Option<(&'a str, NaiveDate, NaiveDate)>)>) -> String {
    let mut methods = String::new();
    let mut filters = String::new();
    for (method, filter) in asked {
        let _ = write!(methods, "<Method>Registration_{method}</Method>");
        if let Some((filter, start, end)) = filter {
            let _ = write!(filters, r#"<{filter} StartDate="{start}" EndDate="{end}" />"#);
        }
    }
    let filters = if filters.is_empty() { filters } else { format!("<Registration>{filters}</Registration>") };
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><Filters><MethodsToRun>{methods}</MethodsToRun>{filters}</Filters>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use FetchedKind::{Codes, OutOfSchool, Registrations};

    fn request(kinds: &[FetchedKind], from: u32, to: u32, look_back: u32) -> BatchRequest {
        let date = |day| NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
        BatchRequest { kinds: kinds.to_vec(), from: date(from), to: date(to), look_back }
    }

    /// What is asked for instead: kinds, first and last day.
    fn instead(request: &BatchRequest, rows: &[(FetchedKind, u64)]) -> Result<Vec<(usize, String, String)>, String> {
        let parts = request.accept(rows, Format::Xml, Some(2_000)).map_err(|error| error.to_string())?;
        Ok(parts.iter().map(|part| (part.kinds.len(), part.from.to_string(), part.to.to_string())).collect())
    }

    #[test]
    fn a_reply_that_looks_cut_is_asked_for_in_halves_with_the_days_before_as_a_part_of_their_own() {
        let both = request(&[Registrations, OutOfSchool], 1, 4, 10);
        assert_eq!(instead(&both, &[(Registrations, 1_999), (OutOfSchool, 0)]), Ok(vec![]));
        let part = |kinds, from: &str, to: &str| (kinds, format!("2026-{from}"), format!("2026-{to}"));
        let parts = vec![part(1, "10-22", "10-31"), part(2, "11-01", "11-02"), part(2, "11-03", "11-04")];
        assert_eq!(instead(&both, &[(Registrations, 2_000), (OutOfSchool, 0)]), Ok(parts.clone()));
        assert_eq!(instead(&both, &[(Registrations, 0), (OutOfSchool, 2_000)]), Ok(parts));
        let day = request(&[Registrations, OutOfSchool], 4, 4, 10);
        let parts = vec![part(1, "10-25", "11-03"), part(2, "11-04", "11-04")];
        assert_eq!(instead(&day, &[(Registrations, 5), (OutOfSchool, 2_000)]), Ok(parts));
    }

    #[test]
    fn what_looks_cut_and_can_not_be_asked_for_in_parts_is_refused() {
        let day = request(&[Registrations], 4, 4, 0);
        let error = instead(&day, &[(Registrations, 2_000)]).unwrap_err();
        assert!(error.contains("the reply for 2026-11-04 has exactly 2000 rows in RegistrationStatuses"), "{error}");
        let table = request(&[Codes], 1, 4, 0);
        let error = instead(&table, &[(Codes, 2_000)]).unwrap_err();
        assert!(error.contains("the code table has exactly 2000 rows in RegistrationCodes"), "{error}");
        let days = request(&[Registrations], 1, 4, 0);
        assert!(days.accept(&[(Registrations, 2_000)], Format::Xml, None).unwrap().is_empty(), "nothing is suspected");
    }

    #[test]
    fn a_container_that_is_missing_is_refused_where_empty_ones_show() {
        let days = request(&[Registrations, OutOfSchool], 1, 4, 0);
        let error = instead(&days, &[(Registrations, 3)]).unwrap_err();
        assert!(error.contains("the reply has no OutOfSchoolPupils"), "{error}");
        assert!(days.accept(&[(Registrations, 3)], Format::Json, Some(2_000)).unwrap().is_empty());
    }
}
