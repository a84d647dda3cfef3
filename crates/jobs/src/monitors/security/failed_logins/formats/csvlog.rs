//! csvlog: a record of fields, those of text in quotes, in which quotes are doubled and line ends are themselves.
//!
//! Invariant: a record that is torn, by a full disk or a crash, costs none after it. Its quotes do not come in pairs, so what follows is
//! read as its text, or what is text as records: such a one is known by its fields, and the next that has them all is found.
//! What a stranger writes is recognized only behind a torn one, and then its quotes are doubled.

use super::{Failure, Read, failure, is_refusal};
use regex::bytes::Regex;
use std::sync::LazyLock;

/// A record up to its message: time, user, database, process, connection, session, line, command, session's start, transactions,
/// severity, SQLSTATE.
static BEGIN: LazyLock<Option<Begin>> = LazyLock::new(|| {
    let (name, word) = (r#"(?:"(?:[^"]|"")*")?"#, r#"(?:"[^"\n]*")?"#);
    let time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d";
    let text = format!(
        "{time}\\.\\d{{3}} [^ ,\"]{{1,40}},{name},{name},\\d*,{word},[0-9a-f]+\\.[0-9a-f]+,\\d+,{word},{time} [^ ,\"]{{1,40}},[-0-9/]*,\\d*,[^,\"\\n]{{2,40}},[0-9A-Z]{{5}},"
    );
    let compiled = |text: &str| Regex::new(text).ok();
    Some(Begin { here: compiled(&format!("(?s-u)^{text}"))?, anywhere: compiled(&format!("(?s-u){text}"))? })
});

struct Begin {
    here: Regex,
    anywhere: Regex,
}

/// Fields of a record: 23 to PostgreSQL 12, more in later versions.
const FIELDS: std::ops::RangeInclusive<usize> = 23..=30;

/// Reads records.
pub fn read(bytes: &[u8]) -> Read {
    let (mut read, mut is_hopeless) = (Read::default(), false);
    while read.whole < bytes.len() {
        let at = read.whole;
        if let Some(record) = whole(&bytes[at..]) {
            read.failures.extend(refused(record));
            read.whole += record.len();
            continue;
        }
        let found = if is_hopeless { None } else { next(bytes, at + 1) };
        is_hopeless = found.is_none();
        let line = || Some(bytes[at..].iter().position(|byte| *byte == b'\n')? + 1);
        let skipped = match (found, end(&bytes[at..])) {
            (Some(next), _) => Some(next - at),
            // It is still being written.
            (None, End::Open) => None,
            (None, End::Whole(end, _)) => Some(end),
            (None, End::Torn) => line(),
        };
        let Some(skipped) = skipped else { break };
        read.whole += skipped;
        read.torn += 1;
    }
    read
}

/// The record at the beginning of these bytes, where there is a whole one.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    if !BEGIN.as_ref()?.here.is_match(bytes) {
        return None;
    }
    match end(bytes) {
        End::Whole(end, fields) if FIELDS.contains(&fields) => Some(&bytes[..end]),
        _ => None,
    }
}

/// Where the next whole record begins.
fn next(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let begin = BEGIN.as_ref()?.anywhere.find_at(bytes, from)?.start();
        if whole(&bytes[begin..]).is_some() {
            return Some(begin);
        }
        from = begin + 1;
    }
}

/// How the text at the beginning of these bytes ends.
enum End {
    /// Here, after so many fields.
    Whole(usize, usize),
    /// It goes on.
    Open,
    /// It is no record: a quote stands where none can be.
    Torn,
}

fn end(bytes: &[u8]) -> End {
    let (mut at, mut fields) = (0, 1);
    loop {
        // A field in quotes may hold line ends and commas, and each of its quotes is doubled.
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match bytes[at..].iter().position(|byte| *byte == b'"') {
                    None => return End::Open,
                    Some(quote) => at += quote + 1,
                }
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
            match bytes.get(at) {
                None => return End::Open,
                Some(b',' | b'\n') => {}
                Some(_) => return End::Torn,
            }
        }
        match bytes[at..].iter().position(|byte| matches!(byte, b',' | b'\n' | b'"')) {
            None => return End::Open,
            Some(next) if bytes[at + next] == b'"' => return End::Torn,
            Some(next) if bytes[at + next] == b'\n' => return End::Whole(at + next + 1, fields),
            Some(next) => at += next + 1,
        }
        fields += 1;
    }
}

fn refused(record: &[u8]) -> Option<Failure> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(record);
    let record = reader.byte_records().next()?.ok()?;
    let field = |index| record.get(index).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    is_refusal(&field(12)?).then(|| {
        let address = field(4).unwrap_or_default();
        failure(field(0), field(1), field(2), Some(without_port(&address)), field(13).unwrap_or_default())
    })
}

/// `10.0.0.1:4711` without its port; an address of IPv6 has more colons.
fn without_port(address: &str) -> String {
    let cut = address.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    cut.map_or(address, |(host, _)| host).to_owned()
}
