//! A window onto a stream: whole rows lie in it, whatever sizes the reader delivers, and lines are counted as they leave.

use std::io::{self, Read};

use super::Refused;

const CHUNK_BYTES: usize = 64 * 1024;

pub(super) struct Source<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where in `buffer` the part begins that nobody has consumed.
    start: usize,
    complete: bool,
    /// What ended the stream. The rows before it are good, so it is told when somebody needs more than them.
    failed: Option<io::Error>,
    /// The line, counted from 1, on which the window begins.
    pub(super) line: u64,
}

/// How many lines end in `bytes`: at LF, CR LF and, as old spreadsheets write it, a CR alone.
pub(super) fn line_ends(bytes: &[u8]) -> u64 {
    let ends = |(at, byte): &(usize, &u8)| **byte == b'\n' || (**byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
    bytes.iter().enumerate().filter(ends).count() as u64
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R) -> Source<R> {
        Source { reader, buffer: Vec::new(), start: 0, complete: false, failed: None, line: 1 }
    }

    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The window reaches the end of the stream.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Makes the window longer; at the end of the stream it marks the window as complete instead. The chunk grows with
    /// the window, so that looking at a long row again after each chunk stays cheap.
    pub(super) fn extend(&mut self) -> Result<(), Refused> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let chunk = self.buffer.len().max(CHUNK_BYTES);
        if let Some(error) = self.failed.take() {
            let reason = format!("The file could not be read beyond this line ({error}); send it again.");
            return Err(Refused::rest(self.line, reason));
        }
        match self.reader.by_ref().take(chunk as u64).read_to_end(&mut self.buffer) {
            Ok(count) => self.complete = count < chunk,
            Err(error) => self.failed = Some(error),
        }
        Ok(())
    }

    /// The next byte, or none at the end.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, Refused> {
        while self.window().is_empty() && !self.complete {
            self.extend()?;
        }
        Ok(self.window().first().copied())
    }

    /// Lets go of the first `count` bytes of the window. It must not cut a CR LF in two, or the line counts twice.
    pub(super) fn consume(&mut self, count: usize) {
        self.line += line_ends(&self.window()[..count]);
        self.start += count;
    }

    /// Lets go of one byte. For JSON: only a line feed ends a line there, so that CR LF can be passed in two steps.
    pub(super) fn pass_byte(&mut self) {
        self.line += u64::from(self.window().first() == Some(&b'\n'));
        self.start += 1;
    }

    /// Lets go of everything up to the beginning of the next line, however long this one is.
    pub(super) fn skip_line(&mut self) -> Result<(), Refused> {
        loop {
            let window = self.window();
            let end = window.iter().position(|it| matches!(it, b'\n' | b'\r'));
            let (passed, found) = match end.map(|at| (at, &window[at..])) {
                Some((at, [b'\r', b'\n', ..])) => (at + 2, true),
                // Whether a line feed follows is not known yet.
                Some((at, [b'\r'])) if !self.complete => (at, false),
                Some((at, _)) => (at + 1, true),
                None => (window.len(), false),
            };
            self.consume(passed);
            if found || self.complete {
                return Ok(());
            }
            self.extend()?;
        }
    }
}
