//! Where words leave the program: standard output and standard error.
//!
//! Invariants: nothing of a stranger, be it the name of a user, of a table or a server's message, moves a cursor or changes a title
//! (C44): only colours of our own pass, which carry a number of this process until they are written. Output that cannot be written ends
//! no work: what is under way goes on without words, and the exit code tells ([`lost`]).

use pgbosun_core::human;
use std::{
    fmt::Arguments,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    sync::{LazyLock, OnceLock},
};

/// A line on standard output.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::console::say(format_args!($($words)*)) };
}

/// A line on standard error.
#[macro_export]
macro_rules! tell {
    ($($words:tt)*) => { $crate::console::tell(format_args!($($words)*)) };
}

/// What a shell shows of a program that SIGPIPE ended.
const SIGPIPE: u8 = 128 + 13;
/// The output cannot be written (sysexits(3), EX_IOERR).
const UNWRITTEN: u8 = 74;

static MARK: LazyLock<String> = LazyLock::new(|| format!("[{};", RandomState::new().hash_one("colours") | 1 << 32));
static LOST: OnceLock<io::Error> = OnceLock::new();

/// A text in one of our colours, an SGR code (ECMA-48, 8.3.117).
pub fn painted(code: &str, text: &str) -> String {
    format!("\x1b{}{code}m{text}\x1b[0m", *MARK)
}

/// The text with nothing in it that a terminal obeys but our colours.
fn guarded(text: &str) -> String {
    let mut pieces = text.split('\x1b');
    let mut guarded = human::plain(pieces.next().unwrap_or_default()).into_owned();
    for piece in pieces {
        let ours = piece.strip_prefix(MARK.as_str()).and_then(|painted| painted.split_once('m'));
        match (ours, piece.strip_prefix("[0m")) {
            (Some((code, text)), _) => guarded += &format!("\x1b[{code}m{}", human::plain(text)),
            // Whoever ends colours does no harm.
            (None, Some(text)) => guarded += &format!("\x1b[0m{}", human::plain(text)),
            (None, None) => guarded += &human::plain(&format!("\x1b{piece}")),
        }
    }
    guarded
}

/// See [`say!`](crate::say).
pub fn say(words: Arguments<'_>) {
    exact(&format!("{}\n", guarded(&words.to_string())));
}

/// See [`tell!`](crate::tell).
pub fn tell(words: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{}", guarded(&words.to_string()));
}

/// A question on standard error, without a line end.
///
/// # Errors
/// Where it cannot be asked.
pub fn ask(words: Arguments<'_>) -> io::Result<()> {
    let mut stderr = io::stderr();
    write!(stderr, "{}", guarded(&words.to_string()))?;
    stderr.flush()
}

/// Text for other programs, as it is.
pub fn exact(text: &str) {
    if LOST.get().is_none()
        && let Err(error) = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
    {
        let _ = LOST.set(error);
    }
}

/// The exit code of a program that was to end with this one: another where output was lost. Nobody who reads no further, as
/// `pgbosun schedule | head` does, is told of it.
pub fn lost(code: u8) -> u8 {
    match LOST.get() {
        None => code,
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => SIGPIPE,
        Some(error) => {
            tell!("{} the output cannot be written: {error}", crate::output::red("pgbosun:"));
            if code == 0 { UNWRITTEN } else { code }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c44_only_our_own_colours_pass() {
        let hostile = "\x1b[2J\x1b[31mALL IS WELL\x1b]0;owned\x07\u{202e}";
        let line = guarded(&format!("{} {hostile} {}", painted("1;31", "bad"), painted("32", hostile)));
        let seen = "\\u{1b}[2J\\u{1b}[31mALL IS WELL\\u{1b}]0;owned\\u{7}\\u{202e}";
        assert_eq!(line, format!("\x1b[1;31mbad\x1b[0m {seen} \x1b[32m{seen}\x1b[0m"));
        assert_eq!(guarded("ü\tand\nso on"), "ü\tand\nso on");
    }
}
