//! jsonlog: an object a line, in whose strings quotes and line ends are escaped. Bytes of names are written as they came, UTF-8 or not.

use super::{Failure, Read, failure, is_refusal};
use std::collections::HashMap;

/// How every record begins; within a string its quotes would be escaped.
const BEGIN: &str = "{\"timestamp\":\"";

/// Reads the whole lines.
pub fn read(bytes: &[u8], whole: usize) -> Read {
    let mut read = Read { whole, ..Read::default() };
    for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        // One that was cut off has no line end: the next one begins in its line.
        let record = line.rfind(BEGIN).map(|at| &line[at..]);
        let is_whole = record.is_some_and(|record| record.ends_with('}'));
        read.torn += u64::from(!is_whole || record.is_some_and(|record| record.len() < line.len()));
        read.failures.extend(record.and_then(refused));
    }
    read
}

fn refused(record: &str) -> Option<Failure> {
    if !record.contains("\"state_code\":\"28") {
        return None;
    }
    let record: HashMap<String, serde_json::Value> = serde_json::from_str(record).ok()?;
    let field = |name: &str| record.get(name)?.as_str().map(str::to_owned);
    let message = field("message").unwrap_or_default();
    is_refusal(&field("state_code")?)
        .then(|| failure(field("timestamp"), field("user"), field("dbname"), field("remote_host"), message))
}
