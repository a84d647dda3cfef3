//! Lines that begin with `log_line_prefix`. Names stand in it as they are, line ends and all, so that a name can look like the end of
//! a record and the beginning of another. What the server writes after them, severity and message, is beyond a stranger's reach, and
//! the message is indented where it has several lines and names the user once more: records are read from there.

use super::{Failure, NOWHERE, failure, is_refusal, named_user, whence};
use regex::{Captures, Regex};
use std::{collections::HashMap, sync::LazyLock};

/// How lines of stderr are read.
#[derive(Clone, Debug)]
pub struct Lines {
    prefix: String,
    /// The beginning of a record: what of the prefix comes before any name.
    begin: Regex,
    /// The prefix and the severity.
    head: Regex,
    /// The prefix has the SQLSTATE.
    state: bool,
}

/// What a failed login says where there is no SQLSTATE.
static TOLD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let text = [
        r#"(?:\S+ ){0,3}authentication failed for user ""#,
        "no pg_hba.conf entry for ",
        "pg_hba.conf rejects (?:replication )?connection for ",
        r#"role ".*" (?:does not exist|is not permitted to log in)(?:\n|$)"#,
        "empty password returned by client",
        "connection requires a valid client certificate",
        "could not accept SSL connection: certificate",
    ];
    Regex::new(&format!("(?s)^(?:{})", text.join("|"))).ok()
});

/// Severities, and what else lines begin with.
static LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words =
        "DEBUG[1-5]?|INFO|NOTICE|WARNING|ERROR|LOG|FATAL|PANIC|DETAIL|HINT|QUERY|CONTEXT|LOCATION|STATEMENT|BACKTRACE";
    Regex::new(&format!("(?:{words}):  ")).ok()
});

/// Between severity and message.
const MARK: &str = ":  ";
const FATAL: &str = "FATAL:  ";
const RECEIVED: &str = "LOG:  connection received: host=";
/// Places in one record that are checked: where there are more, somebody wants us busy.
const PLACES: usize = 200;

/// Bytes of a prefix at most: a connection says no more than 10,000 when it begins (PostgreSQL: `MAX_STARTUP_PACKET_LENGTH`), and a
/// prefix may have a name twice.
const LONGEST_PREFIX: usize = 64 << 10;

/// A record of one line or several.
struct Record {
    text: String,
    /// Where its last line begins that is not indented: severity and message are behind that, since names come before them.
    last: usize,
}

impl Record {
    fn joined(records: &[Self]) -> Self {
        let texts: Vec<_> = records.iter().map(|record| record.text.as_str()).collect();
        let text = texts.join("\n");
        let last = records.last().map_or(0, |record| text.len() - record.text.len() + record.last);
        Self { text, last }
    }
}

/// A login that failed, as far as a record tells.
struct Refusal {
    failure: Failure,
    process: Option<String>,
    /// What stands before its severity.
    prefix: String,
    /// Prefix and message name the same user: so this is where they meet.
    agrees: bool,
}

impl Lines {
    /// Lines with this prefix, in this language.
    ///
    /// # Errors
    /// A prefix that is no use, or messages that are not English where nothing else tells what they mean.
    pub fn new(prefix: &str, language: &str) -> Result<Self, String> {
        let state = prefix.contains("%e");
        let english =
            ["", "C", "POSIX"].contains(&language) || language.starts_with("C.") || language.starts_with("en");
        if !state && !english {
            return Err(format!(
                "the server logs in the language of {language}, without the code of an error: add %e to log_line_prefix, \
                 or csvlog to log_destination, or set lc_messages to C"
            ));
        }
        let no_use = |error: regex::Error| format!("log_line_prefix cannot be used: {error}");
        let begin = Regex::new(&format!("^{}", expression(prefix, Names::Before))).map_err(no_use)?;
        let head = Regex::new(&whole(prefix, Names::Any, state)).map_err(no_use)?;
        Ok(Self { prefix: prefix.to_owned(), begin, head, state })
    }

    /// The failed logins in whole lines.
    pub fn failures(&self, text: &str) -> Vec<Failure> {
        let records = self.records(text);
        let mut refused = Vec::new();
        let mut end = records.len();
        // From the last one on: where its user's name has line ends, what stands before it is that name.
        while end > 0 {
            let mut begin = end - 1;
            let mut found = self.refusal(&records[begin]);
            if let Some(Refusal { agrees: false, failure, .. }) = &found {
                let lines = named_user(&failure.message).unwrap_or_default().matches('\n').count();
                let joined = (1..=lines.min(begin)).find_map(|more| {
                    let whole = self.refusal(&Record::joined(&records[begin - more..end]));
                    Some((more, whole.filter(|whole| whole.agrees)?))
                });
                if let Some((more, whole)) = joined {
                    begin -= more;
                    found = Some(whole);
                }
            }
            refused.extend(found.map(|refusal| (begin, refusal)));
            end = begin;
        }
        refused.reverse();
        // What goes with its message begins as it does.
        refused.dedup_by(|(at, next), (_, one)| match (self.state, &one.process) {
            (true, None) => false,
            (true, process) => *process == next.process && one.failure.time == next.failure.time,
            (false, _) => records[*at].text.strip_prefix(&one.prefix).is_some_and(|rest| {
                !rest.starts_with(FATAL)
                    && LABEL.as_ref().and_then(|label| label.find(rest)).is_some_and(|l| l.start() == 0)
            }),
        });
        let (mut failures, mut hosts) = (Vec::new(), HashMap::new());
        let mut refused = refused.into_iter().peekable();
        for (at, record) in records.iter().enumerate() {
            // log_connections tells the address where the prefix does not.
            hosts.extend(self.received(&record.text));
            while let Some((_, Refusal { mut failure, process, .. })) = refused.next_if(|(begin, _)| *begin == at) {
                let host = process.and_then(|process| hosts.get(&process)).filter(|_| failure.address == NOWHERE);
                if let Some(host) = host {
                    failure.address.clone_from(host);
                }
                failures.push(failure);
            }
        }
        failures
    }

    /// The records. A line that begins as none goes on with the one before it: the message, where it is indented, else a name; and so
    /// does one after a line that has not come to its severity.
    fn records(&self, text: &str) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for line in text.split_terminator('\n') {
            let goes_on = |record: &Record| {
                !self.begin.is_match(line) || self.begin.is_match(&record.text) && !self.has_label(&record.text)
            };
            match (line.strip_prefix('\t'), records.last_mut()) {
                (Some(more), Some(record)) => record.text += &format!("\n{more}"),
                (None, Some(record)) if goes_on(record) => {
                    if self.has_label(line) {
                        record.last = record.text.len();
                    }
                    record.text += &format!("\n{line}");
                }
                (_, _) => records.push(Record { text: line.to_owned(), last: 0 }),
            }
        }
        records
    }

    /// Whether a severity may be in it, or the word for what goes with a message.
    fn has_label(&self, text: &str) -> bool {
        if self.state { text.contains(MARK) } else { LABEL.as_ref().is_some_and(|label| label.is_match(text)) }
    }

    fn refusal(&self, record: &Record) -> Option<Refusal> {
        let Record { text, last } = record;
        let may_be = if self.state { &["28P01", "28000"][..] } else { &[FATAL] };
        if !may_be.iter().any(|code| text.contains(code)) {
            return None;
        }
        let mark = if self.state { MARK } else { FATAL };
        let mut best = None::<(Refusal, usize)>;
        for (count, (at, _)) in text.match_indices(mark).filter(|(at, _)| at >= last).enumerate() {
            let message_at = at + mark.len();
            let (head, message) = (&text[..message_at - MARK.len()], &text[message_at..]);
            if count == PLACES {
                // Whoever hides something counts too.
                return best.map(|(found, _)| found).or_else(|| Some(refusal(None, message, None)));
            }
            // Names are at most so long: what stands behind more is somebody's statement.
            if head.len() > LONGEST_PREFIX {
                break;
            }
            if !self.state && TOLD.as_ref().is_none_or(|told| !told.is_match(message)) {
                continue;
            }
            let fields = self.head.captures(head);
            let state = fields.as_ref().and_then(|fields| fields.name("state"));
            if self.state && state.is_none_or(|state| !is_refusal(state.as_str())) {
                continue;
            }
            let one = refusal(fields, message, named_user(message));
            let one = if one.agrees { one } else { self.of_named(head, message).unwrap_or(one) };
            // A name may look like the end of a prefix, or like a message: the message that names most is the server's, and of two that
            // name the same, the last.
            let named = named_user(message).map_or(0, str::len);
            if best.as_ref().is_none_or(|(known, most)| (one.agrees, named) >= (known.agrees, *most)) {
                best = Some((one, named));
            }
        }
        best.map(|(found, _)| found)
    }

    /// Where the prefix fits with exactly the user that the message names, whatever that name looks like.
    fn of_named(&self, head: &str, message: &str) -> Option<Refusal> {
        let user = named_user(message).filter(|user| user.len() <= head.len())?.replace("\n\t", "\n");
        let expression = Regex::new(&whole(&self.prefix, Names::User(&regex::escape(&user)), self.state)).ok()?;
        Some(refusal(Some(expression.captures(head)?), message, Some(&user)))
    }

    /// The process and the address of a connection.
    fn received(&self, record: &str) -> Option<(String, String)> {
        let at = record.find(RECEIVED)?;
        let fields = self.head.captures(&record[..at + 3])?;
        let is_nobody = fields.name("user").is_none_or(|user| ["", "[unknown]"].contains(&user.as_str()));
        let host = record[at + RECEIVED.len()..].split(" port=").next()?;
        is_nobody.then_some((fields.name("process")?.as_str().to_owned(), whence(host.trim_end().to_owned())))
    }
}

/// What the prefix says of a failure, and whether it agrees with the message, which names this user.
fn refusal(fields: Option<Captures<'_>>, message: &str, named: Option<&str>) -> Refusal {
    let text = |name: &str| Some(fields.as_ref()?.name(name)?.as_str());
    let field = |name: &str| text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let user = text("user").filter(|user| !["", "[unknown]"].contains(user));
    let agrees = fields.is_some() && user.zip(named).is_none_or(|(user, named)| user == named);
    // Where they do not agree, somebody garbled the prefix: what it says is not believed, and the message is the server's own.
    let host = field("host").filter(|_| agrees).map(|host| host.split('(').next().unwrap_or_default().to_owned());
    let user = named_user(message).or(user).map(str::to_owned);
    let prefix = text("prefix").unwrap_or_default().to_owned();
    let failure = failure(field("time"), user, field("database"), host, message.to_owned());
    Refusal { failure, process: field("process"), prefix, agrees }
}

/// Which names a prefix may have.
#[derive(Clone, Copy)]
enum Names<'a> {
    Any,
    /// None: what comes before the first.
    Before,
    /// This user.
    User(&'a str),
}

/// What a prefix with a severity looks like.
fn whole(prefix: &str, names: Names<'_>, state: bool) -> String {
    let severity = if state { r"[^\s:]+" } else { "FATAL|LOG" };
    format!("(?s)^(?P<prefix>{})(?:{severity})$", expression(prefix, names))
}

/// What a prefix looks like.
fn expression(prefix: &str, names: Names<'_>) -> String {
    let mut expression = String::new();
    let mut characters = prefix.chars().peekable();
    let mut named = Vec::new();
    while let Some(character) = characters.next() {
        if character != '%' {
            expression.push_str(&regex::escape(&character.to_string()));
            continue;
        }
        let mut padded = false;
        while characters.peek().is_some_and(|next| *next == '-' || next.is_ascii_digit()) {
            padded = true;
            characters.next();
        }
        let Some(escape) = characters.next() else { break };
        // What follows %q is left out where there is no session.
        if matches!(names, Names::Before) && "udahrq".contains(escape) {
            break;
        }
        let (name, pattern) = match (escape, names) {
            ('u', Names::User(user)) => ("user", user),
            ('u', _) => ("user", ".*?"),
            ('d', _) => ("database", ".*?"),
            ('r' | 'h', _) => ("host", r"\S*?"),
            ('L', _) => ("local", r"\S*?"),
            ('p', _) => ("process", r"\d+"),
            ('t' | 's', _) => ("time", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+"),
            ('m', _) => ("time", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \S+"),
            ('n', _) => ("time", r"\d+\.\d+"),
            ('e', _) => ("state", "[0-9A-Z]{5}"),
            ('q', _) => continue,
            ('%', _) => {
                expression.push('%');
                continue;
            }
            _ => ("", ".*?"),
        };
        let space = if padded { " *" } else { "" };
        // The start of the session (%s) is no second time.
        let name = if escape == 's' { "" } else { name };
        if name.is_empty() || named.contains(&name) {
            expression.push_str(&format!("{space}(?:{pattern}){space}"));
        } else {
            named.push(name);
            expression.push_str(&format!("{space}(?P<{name}>{pattern}){space}"));
        }
    }
    expression
}
