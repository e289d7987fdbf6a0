//! CSV in both header generations of Shopify, and any table whose columns carry the same names.
//!
//! The splitter is ours because a lenient one loses data: to it, one forgotten quote makes the rest of the file a single
//! field. Here text after a closing quote, a quote that is never closed and a row beyond the limits are refused with
//! their line, and reading goes on at the line below the bad quote.

use std::io::Read;

use super::source::{Source, line_ends};
use super::{Field, NOT_UTF8, ROW_MAX_BYTES, Raw, Refused};

/// A row of more lines than this is taken for one with a quote that nobody closed.
const ROW_MAX_LINES: u64 = 1_000;

pub(super) struct Table<R> {
    source: Source<R>,
    /// What each column means; empty until the header is read.
    columns: Vec<Option<Field>>,
    /// The first row of the handle that is being read: its variants inherit from it.
    first: Option<First>,
    cells: Cells,
}

struct First {
    handle: String,
    title: Option<String>,
    description: Option<String>,
    image: Option<String>,
}

/// The fields of one row, unquoted, one after the other.
#[derive(Default)]
struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

#[derive(Debug, PartialEq)]
enum Found {
    /// The window begins with a row of that many bytes, its line end included.
    Row(usize),
    /// The window ends before the row does.
    More,
    /// A field that opens with a quote at `opened` goes on after its closing quote.
    Stray {
        opened: usize,
    },
    /// The quote at this place is not closed before the end or the limit.
    Open {
        opened: usize,
    },
    TooLong,
}

/// Splits the row at the beginning of the window into `cells`.
fn split(window: &[u8], complete: bool, cells: &mut Cells) -> Found {
    enum At {
        Start,
        Plain,
        Quoted,
        /// Behind a quote inside a quoted field: it closes the field, or stands for one quote if another follows.
        Quote,
    }
    cells.bytes.clear();
    cells.ends.clear();
    let (mut at, mut opened, mut lines) = (At::Start, 0, 0);
    for (place, &byte) in window.iter().enumerate().take(ROW_MAX_BYTES) {
        at = match (at, byte) {
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) => {
                lines += u64::from(byte == b'\n');
                if lines == ROW_MAX_LINES {
                    return Found::Open { opened };
                }
                cells.bytes.push(byte);
                At::Quoted
            }
            (At::Quote, b'"') => {
                cells.bytes.push(b'"');
                At::Quoted
            }
            (At::Start, b'"') => {
                opened = place;
                At::Quoted
            }
            (_, b',') => {
                cells.ends.push(cells.bytes.len());
                At::Start
            }
            (_, b'\n') => {
                cells.ends.push(cells.bytes.len());
                return Found::Row(place + 1);
            }
            (_, b'\r') => {
                cells.ends.push(cells.bytes.len());
                return match window.get(place + 1) {
                    Some(b'\n') => Found::Row(place + 2),
                    None if !complete => Found::More,
                    _ => Found::Row(place + 1),
                };
            }
            (At::Quote, _) => return Found::Stray { opened },
            (At::Start | At::Plain, _) => {
                cells.bytes.push(byte);
                At::Plain
            }
        };
    }
    let over = window.len() >= ROW_MAX_BYTES;
    match at {
        At::Quoted if complete || over => Found::Open { opened },
        _ if over => Found::TooLong,
        _ if !complete => Found::More,
        _ => {
            cells.ends.push(cells.bytes.len());
            Found::Row(window.len())
        }
    }
}

impl Cells {
    /// The fields in order, or none if they are not UTF-8.
    fn texts(&self) -> Option<Vec<&str>> {
        // Fields end at ASCII characters, so the whole can be cut there when it is valid.
        let text = std::str::from_utf8(&self.bytes).ok()?;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        Some(starts.zip(&self.ends).map(|(start, end)| text[start..*end].trim()).collect())
    }
}

impl<R: Read> Table<R> {
    pub(super) fn new(source: Source<R>) -> Table<R> {
        Table { source, columns: Vec::new(), first: None, cells: Cells::default() }
    }

    /// The next row that describes a product.
    pub(super) fn next(&mut self) -> Option<Result<Raw, Refused>> {
        self.next_row().transpose()
    }

    fn next_row(&mut self) -> Result<Option<Raw>, Refused> {
        if self.columns.is_empty() {
            self.read_header()?;
        }
        while let Some(line) = self.split_row()? {
            let Some(texts) = self.cells.texts() else {
                return Err(Refused::row(line, None, format!("The row {NOT_UTF8}")));
            };
            if texts.iter().all(|it| it.is_empty()) {
                continue;
            }
            let (given, wanted) = (texts.len(), self.columns.len());
            if given < wanted || texts[wanted..].iter().any(|it| !it.is_empty()) {
                let reason = format!(
                    "The row has {given} columns and the header {wanted}; add what is missing, or put quotes around a \
                     text that contains a comma."
                );
                return Err(Refused::row(line, None, reason));
            }
            let mut raw = Raw::new(line);
            for (field, text) in self.columns.iter().zip(texts) {
                if let Some(field) = field {
                    raw.give(*field, text.to_owned());
                }
            }
            if let Some(raw) = self.complete(raw) {
                return Ok(Some(raw));
            }
        }
        Ok(None)
    }

    /// Splits the next row and says on which line it begins; none at the end of the file.
    fn split_row(&mut self) -> Result<Option<u64>, Refused> {
        let line = self.source.line;
        loop {
            if self.source.peek()?.is_none() {
                return Ok(None);
            }
            let window = self.source.window();
            let opened_line = |opened: usize| line + line_ends(&window[..opened]);
            let (skip, reason) = match split(window, self.source.is_complete(), &mut self.cells) {
                Found::Row(length) => {
                    self.source.consume(length);
                    return Ok(Some(line));
                }
                Found::More => {
                    self.source.extend()?;
                    continue;
                }
                Found::Stray { opened } => {
                    let reason = format!(
                        "A field that opens with a quote in line {} goes on after its closing quote; write each quote \
                         inside a quoted field twice, and close every quote.",
                        opened_line(opened)
                    );
                    (opened, reason)
                }
                Found::Open { opened } => {
                    let reason = format!(
                        "The quote that opens in line {} is not closed before the end of the file, {ROW_MAX_LINES} \
                         lines or 1 MB; close it.",
                        opened_line(opened)
                    );
                    (opened, reason)
                }
                Found::TooLong => (0, "The row is longer than 1 MB; shorten it.".to_owned()),
            };
            self.source.consume(skip);
            self.source.skip_line()?;
            return Err(Refused::row(line, None, reason));
        }
    }

    fn read_header(&mut self) -> Result<(), Refused> {
        let line = loop {
            let row = self.split_row().map_err(|it| Refused::rest(it.line, it.reason))?;
            let line = row.ok_or_else(|| Refused::rest(1, "The file is empty."))?;
            if !self.cells.bytes.iter().all(u8::is_ascii_whitespace) {
                break line;
            }
        };
        let names = self.cells.texts();
        let names = names.ok_or_else(|| Refused::rest(line, format!("The header {NOT_UTF8}")))?;
        let columns: Vec<Option<Field>> = names.iter().map(|it| Field::of(it)).collect();
        let mut missing = Vec::new();
        if !columns.contains(&Some(Field::Title)) {
            missing.push("Title");
        }
        if !columns.contains(&Some(Field::Price)) {
            missing.push("Price (or Variant Price)");
        }
        if missing.is_empty() {
            self.columns = columns;
            return Ok(());
        }
        let mut reason = format!("The header has no column {}; add it.", missing.join(" and no column "));
        if names.len() == 1 && names[0].contains([';', '\t']) {
            reason.push_str(" Separate the columns with commas, not with semicolons or tabs.");
        }
        Err(Refused::rest(line, reason))
    }

    /// Gives a variant what only the first row of its handle says. None for a row that only adds an image.
    fn complete(&mut self, mut raw: Raw) -> Option<Raw> {
        // Shopify counts what it sold beyond its stock below zero.
        if raw.on_hand.as_ref().is_some_and(|it| it.strip_prefix('-').is_some_and(|it| it.parse::<u64>().is_ok())) {
            raw.on_hand = Some("0".to_owned());
        }
        let bare = raw.price.is_none() && raw.sku.is_none() && raw.variant.is_none();
        if raw.title.is_none() && bare {
            return None;
        }
        let first = self.first.as_ref().filter(|it| raw.handle.as_ref() == Some(&it.handle));
        match first {
            Some(first) => {
                raw.title = raw.title.or_else(|| first.title.clone());
                raw.description = raw.description.or_else(|| first.description.clone());
                raw.image = raw.image.or_else(|| first.image.clone());
            }
            None => {
                let (title, description, image) = (raw.title.clone(), raw.description.clone(), raw.image.clone());
                self.first = raw.handle.clone().map(|handle| First { handle, title, description, image });
            }
        }
        if raw.title.is_none() {
            raw.complain(
                "The title is missing; add it. A variant takes it from the first row of its handle, and the rows of one \
                 handle must stand together.",
            );
        }
        Some(raw)
    }
}
