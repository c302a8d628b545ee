//! Where a command writes, and how it ends.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// How a command ends; the numbers are part of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or there was nothing to do.
    Done,
    /// 1: refused, or failed; nothing has changed unless the message says otherwise.
    Refused,
    /// 2: the command was called in the wrong way.
    Usage,
    /// 2: only of `plan`, which has no other use of the number: an apply would change something.
    Changes,
    /// 3: only of `plan`: an apply would widen what is allowed.
    Widens,
    /// 4: nothing has changed yet: it waits for a second person.
    Waits,
    /// 1: only of `policy replay` and `policy diff`: something would be decided otherwise.
    Differs,
    /// 2: only of those: whether anything would cannot be told.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Refused | Exit::Differs => 1,
            Exit::Usage | Exit::Changes | Exit::Unknown => 2,
            Exit::Widens => 3,
            Exit::Waits => 4,
        })
    }
}

/// Results go to `out`, complaints to `err`.
pub struct Output<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Complaints.
    pub err: &'a mut (dyn Write + Send),
}

impl Output<'_> {
    /// One line of the result. A reader that has gone away, as with `| head`, is no fault of ours.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    /// One line of complaint.
    pub fn complain(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }

    /// A value as indented JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.complain(&error.to_string()),
        }
    }
}

/// Whether results may be coloured: a terminal reads them, and nobody has set `NO_COLOR` (no-color.org).
pub fn colour() -> bool {
    coloured(&io::stdout())
}

/// The same of the log, which goes to standard error.
pub fn colour_of_log() -> bool {
    coloured(&io::stderr())
}

#[expect(clippy::disallowed_methods, reason = "a convention of terminals: it is not configuration")]
fn coloured(stream: &impl IsTerminal) -> bool {
    let unwanted = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    stream.is_terminal() && !unwanted
}

/// Calls `command` with the terminal's own streams.
pub fn on_terminal<T>(command: impl FnOnce(&mut Output<'_>) -> T) -> T {
    command(&mut Output { out: &mut io::stdout(), err: &mut io::stderr() })
}
