//! Where words leave the program: standard output and standard error.
//!
//! Invariants: nothing of a stranger, be it the name of a user, of a table or a server's message, moves a cursor or changes a title
//! (C44): only colours of our own pass, which carry a number of this process until they are written. Output that cannot be written ends
//! no work: what is under way goes on without words, and the exit code tells ([`lost`]).

use pgbosun_core::human;
use std::{
    borrow::Cow,
    fmt::Arguments,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    sync::{LazyLock, OnceLock},
};
use unicode_width::UnicodeWidthChar;

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

/// A text in pieces, each with the code of the colour of ours that begins or, as `0`, ends before it.
fn pieces(text: &str) -> Vec<(Option<&str>, Cow<'_, str>)> {
    let mut parts = text.split('\x1b');
    let mut pieces = vec![(None, Cow::Borrowed(parts.next().unwrap_or_default()))];
    pieces.extend(parts.map(|part| {
        let ours = part.strip_prefix(MARK.as_str()).and_then(|painted| painted.split_once('m'));
        match (ours, part.strip_prefix("[0m")) {
            (Some((code, text)), _) => (Some(code), Cow::Borrowed(text)),
            // Whoever ends colours does no harm.
            (None, Some(text)) => (Some("0"), Cow::Borrowed(text)),
            (None, None) => (None, Cow::Owned(format!("\x1b{part}"))),
        }
    }));
    pieces
}

/// The text with nothing in it that a terminal obeys but our colours.
fn guarded(text: &str) -> String {
    let mut guarded = String::with_capacity(text.len());
    for (code, text) in pieces(text) {
        if let Some(code) = code {
            guarded += &format!("\x1b[{code}m");
        }
        guarded += &human::plain(&text);
    }
    guarded
}

/// How many columns of a terminal a text takes in one line.
pub fn width(text: &str) -> usize {
    let wide = |text: &str| human::line(text).chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    pieces(text).iter().map(|(_, text)| wide(text)).sum()
}

/// A text in one line of at most so many columns, its colours kept; what is cut ends with `…`.
pub fn cut(text: &str, columns: usize) -> String {
    let too_long = width(text) > columns;
    let mut room = if too_long { columns.saturating_sub(1) } else { columns };
    let (mut line, mut full) = (String::with_capacity(text.len()), false);
    for (code, text) in pieces(text) {
        match code {
            Some("0") => line += "\x1b[0m",
            // A colour that would begin behind the end.
            Some(_) if full => {}
            Some(code) => line += &format!("\x1b{}{code}m", *MARK),
            None => {}
        }
        for c in human::line(&text).chars() {
            let wide = c.width().unwrap_or(0);
            if full {
                break;
            } else if wide > room {
                line.push('…');
                full = true;
            } else {
                room -= wide;
                line.push(c);
            }
        }
    }
    line
}

/// See [`say!`](crate::say).
pub fn say(words: Arguments<'_>) {
    exact(&format!("{}\n", guarded(&words.to_string())));
}

/// Lines from the top of the terminal on, in place of what was there (ECMA-48: CUP, EL, ED).
pub fn draw(lines: &[String]) {
    let lines: Vec<_> = lines.iter().map(|line| format!("{}\x1b[K\n", guarded(line))).collect();
    exact(&format!("\x1b[H{}\x1b[J", lines.concat()));
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

    #[test]
    fn what_is_cut_keeps_its_colour_and_ends_it() {
        let text = format!("{} and 東京 too", painted("31", "failed"));
        assert_eq!(width(&text), 19);
        assert_eq!(guarded(&cut(&text, 19)), "\x1b[31mfailed\x1b[0m and 東京 too");
        assert_eq!(guarded(&cut(&text, 13)), "\x1b[31mfailed\x1b[0m and …");
        assert_eq!(guarded(&cut(&text, 4)), "\x1b[31mfai…\x1b[0m");
        assert_eq!(guarded(&cut("one\nline", 80)), "one\\nline");
    }
}
