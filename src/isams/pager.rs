//! Whether the pages of a REST list are the whole list, from what each says of itself.

use std::collections::{BTreeSet, HashSet};

use super::failure::bad_reply;
use super::page::Paging;
use crate::source::{SourceError, SourceErrorKind};

/// Records of one page (in use, verified).
pub(super) const PAGE_SIZE: u64 = 100;
/// More pages than any list has.
const MOST_PAGES: u64 = 1_000;

/// The pages of one list so far.
pub(super) struct Pager<'a> {
    /// What the list is called in errors.
    place: &'a str,
    /// The page to ask for, from 1.
    page: u64,
    records: u64,
    /// Hashes of the records of all pages, and of the last one.
    seen: HashSet<u64>,
    before: Vec<u64>,
    /// What any page says of the whole list holds, even where a later one says less.
    last_page: Option<u64>,
    totals: BTreeSet<u64>,
}

/// What to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageStep {
    /// Its records count, and there are more.
    Next,
    /// Its records count, and there are no more.
    Last,
    /// It is the page before once more, since nothing is paged: the list is whole without it.
    LastAgain,
    /// Some of its records stood on pages before. A register can hold equal records, but nothing distinguishes those from
    /// others that were pushed aside, so the list has to be read another way.
    Repeats,
}

impl<'a> Pager<'a> {
    pub(super) fn new(place: &'a str) -> Self {
        let (seen, before, totals) = Default::default();
        Self { place, page: 1, records: 0, seen, before, last_page: None, totals }
    }

    /// The page to ask for next.
    pub(super) fn page(&self) -> u64 {
        self.page
    }

    /// Takes the page that was asked for: a hash of each of its records, and what it says of itself.
    pub(super) fn accept(&mut self, hashes: Vec<u64>, about: Paging) -> Result<PageStep, SourceError> {
        let (page, place, count) = (self.page, self.place, hashes.len() as u64);
        // Some count from 0; whether they begin with the page after the first shows in their total.
        let is_from_zero = |given: u64| given + 1 == page && about.total.is_some();
        if let Some(given) = about.page.filter(|given| *given != page && !is_from_zero(*given)) {
            return Err(bad_reply(format!("page {page} of {place} was asked for, and page {given} came")));
        }
        self.last_page = self.last_page.max(about.pages);
        // A count of this page alone says nothing of the others; one of more than it holds must be of all.
        let counted = about.total.or(about.count.filter(|counted| *counted > count));
        self.totals.extend(counted.filter(|total| *total != count));
        if let Some(last) = self.last_page.filter(|last| count == 0 && page > 1 && page <= *last) {
            let message = format!("iSAMS says that {place} has {last} pages, and page {page} holds no record");
            return Err(incomplete(message));
        }
        let is_again = count > 0 && hashes == self.before;
        if is_again && (about.pages.is_some() || about.has_next) {
            return Err(bad_reply(format!("page {page} of {place} is page {} again", page - 1)));
        }
        if !is_again {
            if hashes.iter().any(|hash| self.seen.contains(hash)) {
                return Ok(PageStep::Repeats);
            }
            self.records += count;
        }
        self.seen.extend(hashes.iter().copied());
        self.before = hashes;
        // A tenant that does not say how large its pages are may cut them at the usual size.
        let size = about.size.unwrap_or(PAGE_SIZE);
        let is_last = match (self.last_page, about.total) {
            _ if about.has_next => false,
            (Some(pages), _) => page >= pages,
            (None, _) if is_again || count == 0 => true,
            (None, Some(total)) if count != size => self.records >= total,
            // A page that is full can be followed by another, whatever it counts.
            (None, _) => count < size,
        };
        if !is_last {
            self.page += 1;
            return match self.page > MOST_PAGES {
                true => Err(bad_reply(format!("{place} has more than {MOST_PAGES} pages; check the address"))),
                false => Ok(PageStep::Next),
            };
        }
        match self.totals.iter().find(|total| **total != self.records) {
            None if is_again => Ok(PageStep::LastAgain),
            None => Ok(PageStep::Last),
            // Records that come or go between two pages: another try sees them whole.
            Some(total) => {
                Err(incomplete(format!("iSAMS counts {total} records of {place} and sent {}", self.records)))
            }
        }
    }
}

fn incomplete(message: String) -> SourceError {
    SourceError::temporary(SourceErrorKind::Incomplete, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of records with these numbers.
    fn page(records: std::ops::Range<u64>, about: Paging) -> (Vec<u64>, Paging) {
        (records.collect(), about)
    }

    fn about() -> Paging {
        Paging::default()
    }

    fn pages(of: u64) -> Paging {
        Paging { pages: Some(of), ..about() }
    }

    fn total(of: u64) -> Paging {
        Paging { total: Some(of), ..about() }
    }

    fn numbered(page: u64, about: Paging) -> Paging {
        Paging { page: Some(page), ..about }
    }

    /// What is made of these pages, one after the other: the last step, or the error.
    fn read(pages: Vec<(Vec<u64>, Paging)>) -> Result<PageStep, String> {
        let mut pager = Pager::new("register/1");
        let mut last = PageStep::Next;
        for (number, (hashes, about)) in pages.into_iter().enumerate() {
            assert_eq!((last, pager.page()), (PageStep::Next, number as u64 + 1), "the page is asked for");
            last = pager.accept(hashes, about).map_err(|error| error.to_string())?;
        }
        Ok(last)
    }

    #[test]
    fn a_list_is_whole_where_its_pages_say_so() {
        let next = Paging { has_next: true, ..about() };
        let small = Paging { size: Some(10), ..about() };
        for (pages, step) in [
            // A register of fewer records than a page has room for.
            (vec![page(0..30, about())], PageStep::Last),
            (vec![page(0..0, about())], PageStep::Last),
            // A full page can be followed by another.
            (vec![page(0..100, about())], PageStep::Next),
            (vec![page(0..100, about()), page(100..130, about())], PageStep::Last),
            (vec![page(0..100, about()), page(0..0, about())], PageStep::Last),
            (vec![page(0..10, small)], PageStep::Next),
            // An endpoint without pages gives the same again.
            (vec![page(0..100, about()), page(0..100, about())], PageStep::LastAgain),
            // The number of pages counts, whatever their size.
            (vec![page(0..30, pages(2))], PageStep::Next),
            (vec![page(0..30, pages(2)), page(30..40, about())], PageStep::Last),
            (vec![page(0..100, pages(1))], PageStep::Last),
            // The total counts.
            (vec![page(0..30, total(40))], PageStep::Next),
            (vec![page(0..30, total(40)), page(30..40, total(40))], PageStep::Last),
            // A link to another page does.
            (vec![page(0..30, next)], PageStep::Next),
            (vec![page(0..30, next), page(30..40, about())], PageStep::Last),
            // Pages that are numbered from 0 show it in their total.
            (vec![page(0..30, numbered(0, total(30)))], PageStep::Last),
            // A record of an earlier page comes again: another has been pushed aside, or two are equal.
            (vec![page(0..100, about()), page(99..130, about())], PageStep::Repeats),
        ] {
            assert_eq!(read(pages.clone()), Ok(step), "{pages:?}");
        }
    }

    #[test]
    fn pages_that_contradict_each_other_are_refused() {
        for (pages, says) in [
            (vec![page(0..30, numbered(2, about()))], "page 1 of register/1 was asked for, and page 2 came"),
            (vec![page(0..30, numbered(0, about()))], "page 1 of register/1 was asked for, and page 0 came"),
            (vec![page(0..30, pages(2)), page(0..0, pages(2))], "has 2 pages, and page 2 holds no record"),
            (vec![page(0..30, pages(3)), page(0..30, pages(3))], "page 2 of register/1 is page 1 again"),
            (vec![page(0..30, total(40)), page(30..35, pages(2))], "counts 40 records of register/1 and sent 35"),
            (vec![page(0..30, Paging { count: Some(50), ..pages(1) })], "counts 50 records of register/1 and sent 30"),
        ] {
            let error = read(pages.clone()).unwrap_err();
            assert!(error.contains(says), "{pages:?}: {error}");
        }
    }

    #[test]
    fn a_list_without_an_end_is_given_up() {
        let mut pager = Pager::new("periods");
        let next = Paging { has_next: true, ..about() };
        let error = (0..).find_map(|number| pager.accept(vec![number], next).err()).unwrap();
        assert_eq!(error.to_string(), "periods has more than 1000 pages; check the address");
    }
}
