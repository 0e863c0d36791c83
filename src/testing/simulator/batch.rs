use std::fmt::{Display, Write};

use bytes::Bytes;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use hyper::StatusCode;
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value, json};

use super::{Reply, State};
use crate::model::FeedTime;
use crate::testing::fake_source::shuffle;

/// A method of the Batch API, the filter element that it needs, and the container that it fills.
pub(super) struct BatchMethod {
    pub(super) name: &'static str,
    filter: Option<&'static str>,
    container: &'static str,
}

const fn method(name: &'static str, filter: Option<&'static str>, container: &'static str) -> BatchMethod {
    BatchMethod { name, filter, container }
}

pub(super) const METHODS: [BatchMethod; 6] = [
    method("Registration_GetRegistrationCodes", None, "RegistrationCodes"),
    method("Registration_GetRegistrationPeriods", Some("RegistrationPeriods"), "RegistrationPeriods"),
    method("Registration_GetRegistrationStatus", Some("RegistrationStatus"), "RegistrationStatuses"),
    method("Registration_GetOutOfSchoolPupils", Some("OutOfSchoolPupils"), "OutOfSchoolPupils"),
    method("Registration_GetPresentCodes", None, "PresentCodes"),
    method("Registration_GetDatesAndTimes", None, "DatesAndTimes"),
];

/// What a request's body asks for.
#[derive(Default)]
struct Filters {
    methods: Vec<String>,
    /// Filter element, start, end (not included).
    ranges: Vec<(String, NaiveDateTime, NaiveDateTime)>,
}

/// An error as iSAMS sends it: it declares UTF-16 over 8-bit bytes (verified).
pub(super) fn message(status: StatusCode, name: &str, title: &str, description: &str) -> Reply {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-16\"?>\r\n<Message>\r\n  <MessageId>{name}</MessageId>\r\n  \
         <MessageName>{name}</MessageName>\r\n  <Title>{title}</Title>\r\n  <Description>{}</Description>\r\n</Message>",
        escape(description)
    );
    Reply::xml(status, xml)
}

/// A failure on iSAMS's side.
pub(super) fn unhandled(description: &str) -> Reply {
    message(StatusCode::INTERNAL_SERVER_ERROR, "UnhandledException", "Unknown Error", description)
}

/// The pages of the Batch API; the data are the same.
pub(super) const XML_PAGE: &str = "/api/batch/1.0/xml.ashx";
pub(super) const JSON_PAGE: &str = "/api/batch/1.0/json.ashx";

/// A request without a body asks like one without filters.
pub(super) fn answer(page: &str, body: &[u8], state: &mut State) -> Reply {
    let filters = if body.trim_ascii().is_empty() { Some(Filters::default()) } else { read_filters(body) };
    let Some(filters) = filters else {
        return unhandled("Data at the root level is invalid. Line 1, position 1.");
    };
    let is_allowed = |name: &str| state.methods.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
    let refused: Vec<String> =
        filters.methods.iter().filter(|name| !is_allowed(name)).map(|name| name.to_lowercase()).collect();
    if !refused.is_empty() {
        let description = format!(
            "The following methods specified in the MethodsToRun filter are not allocated to the requested key: {}",
            refused.join(", ")
        );
        let name = "MethodsNotAllocatedToKeyException";
        return message(StatusCode::FORBIDDEN, name, "Methods Not Allocated To Key", &description);
    }
    let is_asked = |method: &&BatchMethod| match filters.methods.is_empty() {
        true => is_allowed(method.name),
        false => filters.methods.iter().any(|asked| asked.eq_ignore_ascii_case(method.name)),
    };
    let asked: Vec<&BatchMethod> = METHODS.iter().filter(is_asked).collect();
    let is_missing = |method: &&&BatchMethod| method.filter.is_some() && filters.range_of(method).is_none();
    if let Some(method) = asked.iter().find(is_missing) {
        let description = format!(
            "Method \"{}\" requires at least one filter. No filters have been supplied.",
            method.name.replace('_', " - ")
        );
        let name = "FiltersRequiredException";
        return message(StatusCode::INTERNAL_SERVER_ERROR, name, "Filters Required", &description);
    }
    let body = cached(page, body, state, |state| {
        let containers = containers(&asked, &filters, state);
        if page == JSON_PAGE { json(&containers) } else { xml(&containers) }
    });
    let content_type = if page == JSON_PAGE { "application/json" } else { "application/xml" };
    Reply { content_type, ..Reply::xml(StatusCode::OK, body) }
}

impl Filters {
    fn range_of(&self, method: &BatchMethod) -> Option<(NaiveDateTime, NaiveDateTime)> {
        let needed = method.filter?;
        let range = self.ranges.iter().find(|(filter, ..)| filter.eq_ignore_ascii_case(needed));
        range.map(|(_, start, end)| (*start, *end))
    }
}

fn cached(page: &str, request: &[u8], state: &mut State, make: impl FnOnce(&State) -> String) -> Bytes {
    let Some((expiry, clock)) = state.cache.clone() else { return make(state).into() };
    let request = format!("{page} {}", String::from_utf8_lossy(request));
    if let Some((made, reply)) = state.replies.get(&request)
        && clock.now() < *made + expiry
    {
        return reply.clone();
    }
    let reply = Bytes::from(make(state));
    state.replies.insert(request, (clock.now(), reply.clone()));
    reply
}

/// Names count without regard to case; where in the document a filter stands does not matter.
fn read_filters(body: &[u8]) -> Option<Filters> {
    let mut reader = Reader::from_reader(body);
    reader.config_mut().expand_empty_elements = true;
    let mut filters = Filters::default();
    let mut buffer = Vec::new();
    let (mut depth, mut has_root, mut is_method) = (0, false, false);
    loop {
        match reader.read_event_into(&mut buffer).ok()? {
            Event::Start(tag) => {
                let name = tag.local_name();
                let name: &str = name.as_ref();
                if depth == 0 && (has_root || name != "Filters") {
                    return None;
                }
                (depth, has_root) = (depth + 1, true);
                is_method = name.eq_ignore_ascii_case("Method");
                if let Some((start, end)) = range(&tag) {
                    filters.ranges.push((name.to_owned(), start, end));
                }
            }
            Event::Text(text) if depth == 0 && !text.trim().is_empty() => return None,
            Event::Text(text) if is_method => filters.methods.push(text.trim().to_owned()),
            Event::CData(text) if is_method => filters.methods.push(text.trim().to_owned()),
            Event::End(_) => (depth, is_method) = (depth - 1, false),
            Event::DocType(_) => return None,
            Event::Eof => return (has_root && depth == 0).then_some(filters),
            _ => {}
        }
        buffer.clear();
    }
}

/// A bare date is its start.
fn range(tag: &BytesStart<'_>) -> Option<(NaiveDateTime, NaiveDateTime)> {
    let moment = |name: &str| {
        let is_it = |key: &str| key.eq_ignore_ascii_case(name);
        let attribute = tag.attributes().flatten().find(|attribute| is_it(attribute.key.local_name().as_ref()))?;
        // A window at the end of the calendar reaches beyond the dates that records have.
        let date = attribute.value.parse::<NaiveDate>().ok().map(|date| date.and_time(NaiveTime::MIN));
        date.or_else(|| attribute.value.parse().ok().map(FeedTime::as_written))
    };
    Some((moment("StartDate")?, moment("EndDate")?))
}

/// One item: the name of its element, its attribute `Id`, and its children that are not NULL.
#[derive(Clone)]
struct Row {
    element: &'static str,
    id: Option<String>,
    fields: Vec<(String, String)>,
}

impl Row {
    fn new(element: &'static str, id: Option<impl Display>) -> Self {
        Self { element, id: id.map(|id| id.to_string()), fields: Vec::new() }
    }

    /// A child element, or nothing for NULL.
    fn node(mut self, name: &'static str, value: Option<impl Display>) -> Self {
        self.fields.extend(value.map(|value| (name.to_owned(), value.to_string())));
        self
    }

    fn xml(&self) -> String {
        let Self { element, id, fields } = self;
        let id = id.as_ref().map(|id| format!(" Id=\"{}\"", escape(id))).unwrap_or_default();
        let fields: String = fields.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escape(value))).collect();
        format!("<{element}{id}>{fields}</{element}>")
    }

    /// Every scalar is a string (verified).
    fn json(&self) -> Value {
        let id = self.id.iter().map(|id| ("@Id".to_owned(), Value::from(id.as_str())));
        let fields = self.fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
        Value::Object(id.chain(fields).collect())
    }
}

/// Each container with its rows.
fn containers(asked: &[&BatchMethod], filters: &Filters, state: &State) -> Vec<(&'static str, Vec<Row>)> {
    let container = |method: &&BatchMethod| {
        let always = (NaiveDateTime::MIN, NaiveDateTime::MAX);
        let mut rows = rows(method, state, filters.range_of(method).unwrap_or(always));
        for (name, _) in rows.iter_mut().flat_map(|row| &mut row.fields) {
            if let Some(other) = state.renamed.get(name) {
                name.clone_from(other);
            }
        }
        if let Some(seed) = state.shuffle {
            shuffle(&mut rows, seed);
        }
        rows.truncate(state.row_cap.unwrap_or(usize::MAX));
        (method.container, rows)
    };
    asked.iter().map(container).collect()
}

fn xml(containers: &[(&str, Vec<Row>)]) -> String {
    let mut xml = String::from("<iSAMS><RegistrationManager>");
    for (container, rows) in containers {
        if rows.is_empty() {
            let _ = write!(xml, "<{container} />");
        } else {
            let _ = write!(xml, "<{container}>{}</{container}>", rows.iter().map(Row::xml).collect::<String>());
        }
    }
    xml.push_str("</RegistrationManager></iSAMS>");
    xml
}

/// One row is an object, several are an array, none is null (verified).
fn json(containers: &[(&str, Vec<Row>)]) -> String {
    let content = |rows: &[Row]| match rows {
        [] => Value::Null,
        [only] => json!({ only.element: only.json() }),
        [first, ..] => json!({ first.element: rows.iter().map(Row::json).collect::<Vec<_>>() }),
    };
    let manager: Map<String, Value> =
        containers.iter().map(|(container, rows)| ((*container).to_owned(), content(rows))).collect();
    json!({ "iSAMS": { "RegistrationManager": manager } }).to_string()
}

/// The rows of a method within [start, end).
fn rows(method: &BatchMethod, state: &State, (start, end): (NaiveDateTime, NaiveDateTime)) -> Vec<Row> {
    let school = &state.school;
    let is_in = |time: FeedTime| (start..end).contains(&time.as_written());
    let flag = |value: bool| Some(u8::from(value));
    match method.container {
        "RegistrationCodes" => {
            let row = |code: &crate::model::Code| {
                Row::new("RegistrationCode", Some(&code.id))
                    .node("Code", code.letter.as_ref())
                    .node("Name", code.name.as_ref())
                    .node("Absence", flag(code.absence))
                    .node("Active", flag(code.active))
            };
            state.codes().iter().map(row).collect()
        }
        "PresentCodes" => vec![Row::new("PresentCode", Some(1)).node("Code", Some("/")).node("Name", Some("Present"))],
        // The days and times of registers, whatever the date (assumed).
        "DatesAndTimes" => {
            let times = school.periods().iter().map(|period| period.at.as_written().time());
            let times: std::collections::BTreeSet<chrono::NaiveTime> = times.collect();
            times.into_iter().map(|time| Row::new("DateAndTime", None::<u8>).node("Time", Some(time))).collect()
        }
        "RegistrationPeriods" => {
            let row = |period: &crate::model::RegistrationPeriod| {
                Row::new("RegistrationPeriod", Some(&period.id))
                    .node("DateTime", Some(period.at))
                    .node("AmPm", period.session.as_ref())
                    .node("Name", period.name.as_ref())
            };
            school.periods().iter().filter(|period| is_in(period.at)).map(row).collect()
        }
        "RegistrationStatuses" => {
            let row = |row: &crate::model::Registration| {
                Row::new("RegistrationStatus", row.id.as_ref())
                    .node("PupilId", Some(&row.student))
                    .node("Registered", flag(row.registered))
                    .node("RegistrationDateTime", Some(row.at))
                    .node("Code", row.code.as_ref().map(|code| code.as_str()))
                    .node("Reason", row.comment.as_ref())
                    .node("Late", row.late.then_some(1))
                    .node("MinutesLate", row.minutes_late)
                    .node("Alert", Some(0))
                    .node("ParentNotificationSent", Some(0))
                    .node("Author", row.last_updated.map(|_| "STAFF"))
                    .node("LastUpdated", row.last_updated)
                    .node("PeriodId", row.period.as_ref())
            };
            school.registrations().iter().filter(|row| is_in(row.at)).map(row).collect()
        }
        _ => {
            // A record without a believable end reaches to the end of its first date.
            let overlaps = |record: &&crate::model::OutOfSchool| {
                let from = record.from.as_written();
                let last = record.to.map_or(from, FeedTime::as_written).max(from).date();
                from < end && last.and_time(NaiveTime::MIN) + TimeDelta::days(1) > start
            };
            let row = |record: &crate::model::OutOfSchool| {
                Row::new("OutOfSchoolPupil", record.id.as_ref())
                    .node("PupilId", Some(&record.student))
                    .node("StartDateTime", Some(record.from))
                    .node("EndDateTime", record.to)
                    .node("Code", record.code.as_ref().map(|code| code.as_str()))
                    .node("Reason", record.reason.as_ref())
                    .node("LastUpdated", record.last_updated)
            };
            school.all_out_of_school().iter().filter(overlaps).map(row).collect()
        }
    }
}
