//! What a person sees while the demo runs: one line that is rewritten on a terminal, plain lines anywhere else. On stderr, so
//! that stdout has the report alone.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub(super) struct Progress {
    start: Instant,
    rewrites: bool,
    last_plain: Option<Instant>,
}

/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(3);

impl Progress {
    pub(super) fn begin() -> Progress {
        Progress { start: Instant::now(), rewrites: std::io::stderr().is_terminal(), last_plain: None }
    }

    /// Something that happens once.
    pub(super) fn say(&mut self, what: &str) {
        let line = format!("{:>5.1} s  {what}", self.start.elapsed().as_secs_f64());
        self.write(&line, true);
    }

    /// How things stand; shown when there is room for it.
    pub(super) fn show(&mut self, state: &str) {
        let due = self.last_plain.is_none_or(|it| it.elapsed() >= PLAIN);
        if self.rewrites || due {
            self.last_plain = Some(Instant::now());
            let line = format!("{:>5.1} s  {state}", self.start.elapsed().as_secs_f64());
            self.write(&line, false);
        }
    }

    /// A person who has closed their terminal needs no progress, so a line that cannot be written is no error.
    fn write(&self, line: &str, stays: bool) {
        let mut out = std::io::stderr().lock();
        let written = match (self.rewrites, stays) {
            (true, true) => writeln!(out, "\r\x1b[2K{line}"),
            (true, false) => write!(out, "\r\x1b[2K{line}"),
            (false, _) => writeln!(out, "{line}"),
        };
        written.and_then(|()| out.flush()).ok();
    }
}
