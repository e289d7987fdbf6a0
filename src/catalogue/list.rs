//! JSON: an array of objects, or an object with such an array as its member `products`, `items` or `data`.
//!
//! Only the borders of the elements are found here, byte by byte, so that one element at a time lies in memory; what an
//! element says is read by serde, with the prices as the text that stands in the file.

use std::fmt;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::source::Source;
use super::{Field, NOT_UTF8, ROW_MAX_BYTES, Raw, Refused, quoted};

pub(super) struct List<R> {
    source: Source<R>,
    place: Place,
    /// The text of the value that was passed last; as much as [`ROW_MAX_BYTES`] of it.
    value: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Place {
    Start,
    /// Inside the list of products, before its first element or behind another one.
    Elements {
        first: bool,
        wrapped: bool,
    },
    Done,
}

/// The members of an object in the order of the file, their values as they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A text or a number as text; none for everything else.
fn scalar(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw.get()).ok(),
        Some(b'-' | b'0'..=b'9') => Some(raw.get().to_owned()),
        _ => None,
    }
}

impl<R: Read> List<R> {
    pub(super) fn new(source: Source<R>) -> List<R> {
        List { source, place: Place::Start, value: Vec::new() }
    }

    /// The next element that describes a product.
    pub(super) fn next(&mut self) -> Option<Result<Raw, Refused>> {
        self.next_element().transpose()
    }

    fn next_element(&mut self) -> Result<Option<Raw>, Refused> {
        if let Place::Start = self.place {
            self.place = self.open()?;
        }
        let Place::Elements { first, wrapped } = self.place else { return Ok(None) };
        match self.token()? {
            Some(b']') => {
                self.source.pass_byte();
                self.place = Place::Done;
                self.close(wrapped)?;
                return Ok(None);
            }
            Some(b',') if !first => self.source.pass_byte(),
            Some(_) if first => {}
            _ => return Err(self.malformed("expected a comma or the end of the list")),
        }
        self.place = Place::Elements { first: false, wrapped };
        self.token()?;
        let line = self.source.line;
        if self.pass_value()? {
            self.element(line).map(Some)
        } else {
            Err(Refused::row(line, None, "The product takes more than 1 MB; shorten it."))
        }
    }

    fn element(&self, line: u64) -> Result<Raw, Refused> {
        let Ok(text) = std::str::from_utf8(&self.value) else {
            return Err(Refused::row(line, None, format!("The product {NOT_UTF8}")));
        };
        let members = match serde_json::from_str::<Members<'_>>(text) {
            Ok(Members(members)) => members,
            Err(error) if error.classify() == Category::Data => {
                return Err(Refused::row(line, None, "The list has something here that is no object; remove it."));
            }
            Err(error) => return Err(malformed(line + (error.line() as u64).saturating_sub(1), &plain(&error))),
        };
        let mut raw = Raw::new(line);
        for (name, value) in members {
            let Some(field) = Field::of(&name) else { continue };
            match scalar(value) {
                Some(text) => raw.give(field, text.trim().to_owned()),
                // Lists give images in many shapes; a product sells without one.
                None if value.get() == "null" || matches!(field, Field::Image | Field::VariantImage) => {}
                None => {
                    raw.complain(format!("The member {} is neither a text nor a number; make it one.", quoted(&name)));
                }
            }
        }
        Ok(raw)
    }

    /// Goes to the first element of the list.
    fn open(&mut self) -> Result<Place, Refused> {
        match self.token()? {
            None => Err(Refused::rest(1, "The file is empty.")),
            Some(b'[') => {
                self.source.pass_byte();
                Ok(Place::Elements { first: true, wrapped: false })
            }
            Some(b'{') => {
                self.source.pass_byte();
                if self.pass_members(true)? {
                    return Ok(Place::Elements { first: true, wrapped: true });
                }
                let reason = "The file has no list of products; write an array, or an object with the products in its \
                              member \"products\", \"items\" or \"data\".";
                Err(Refused::rest(self.source.line, reason))
            }
            Some(_) => Err(self.malformed("expected a list or an object")),
        }
    }

    /// Reads what stands behind the list of products: a file that was cut off must not count as read.
    fn close(&mut self, wrapped: bool) -> Result<(), Refused> {
        if wrapped && self.pass_members(false)? {
            let reason = "The file has a second list of products from this line on; put all of them into one.";
            return Err(Refused::rest(self.source.line, reason));
        }
        match self.token()? {
            None => Ok(()),
            Some(_) => Err(self.malformed("expected nothing more behind the end")),
        }
    }

    /// Passes over members of the outermost object up to a list of products (true) or the end of the object (false).
    fn pass_members(&mut self, mut first: bool) -> Result<bool, Refused> {
        loop {
            match self.token()? {
                Some(b'}') => {
                    self.source.pass_byte();
                    return Ok(false);
                }
                Some(b',') if !first => {
                    self.source.pass_byte();
                    self.token()?;
                }
                Some(_) if first => {}
                _ => return Err(self.malformed("expected a comma or the end of the object")),
            }
            first = false;
            if self.source.peek()? != Some(b'"') || !self.pass_value()? {
                return Err(self.malformed("expected the name of a member"));
            }
            let name = serde_json::from_slice::<String>(&self.value).map_err(|it| self.malformed(&plain(&it)))?;
            if self.token()? != Some(b':') {
                return Err(self.malformed("expected a colon"));
            }
            self.source.pass_byte();
            let list = self.token()? == Some(b'[');
            if list && ["products", "items", "data"].iter().any(|it| it.eq_ignore_ascii_case(&name)) {
                self.source.pass_byte();
                return Ok(true);
            }
            if self.pass_value()? {
                serde_json::from_slice::<IgnoredAny>(&self.value).map_err(|it| self.malformed(&plain(&it)))?;
            }
        }
    }

    /// The next byte that is no white space; it stays in the window.
    fn token(&mut self) -> Result<Option<u8>, Refused> {
        loop {
            match self.source.peek()? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.source.pass_byte(),
                other => return Ok(other),
            }
        }
    }

    /// Passes over the value that begins here and keeps its text; false if it is too long for that.
    fn pass_value(&mut self) -> Result<bool, Refused> {
        self.value.clear();
        let (mut depth, mut quoted, mut escaped, mut length) = (0_usize, false, false, 0_usize);
        loop {
            let Some(byte) = self.source.peek()? else {
                return Err(self.malformed("the file ends in the middle of a value"));
            };
            let ends_before = matches!(byte, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
            if depth == 0 && !quoted && ends_before {
                return if length > 0 { Ok(length <= ROW_MAX_BYTES) } else { Err(self.malformed("expected a value")) };
            }
            if quoted && byte < b' ' {
                return Err(self.malformed("a text is not closed on its line, or has a control character in it"));
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if length < ROW_MAX_BYTES {
                self.value.push(byte);
            }
            length += 1;
            self.source.pass_byte();
            if depth == 0 && !quoted && matches!(byte, b'"' | b'}' | b']') {
                return Ok(length <= ROW_MAX_BYTES);
            }
        }
    }

    fn malformed(&self, what: &str) -> Refused {
        malformed(self.source.line, what)
    }
}

fn malformed(line: u64, what: &str) -> Refused {
    Refused::rest(line, format!("The JSON is malformed here: {what}. Correct it; nothing below was read."))
}

/// What serde says, without the place, which counts from the beginning of the element.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
