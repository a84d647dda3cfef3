//! Failed logins in the formats of PostgreSQL's log. Where a record has its SQLSTATE, class 28 tells; where it has not, the
//! English words do.

use regex::Regex;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt};

/// One login that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When, in the log's own words.
    pub time: String,
    /// As whom.
    pub user: String,
    /// To which database.
    pub database: String,
    /// From where.
    pub address: String,
    /// Why.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, user, database, address, message } = self;
        write!(formatter, "{time}  user {user}, database {database}, from {address}: {message}")
    }
}

/// How a server writes its log.
#[derive(Clone, Debug)]
pub enum Format {
    /// A record of comma-separated fields.
    Csv,
    /// A record of JSON a line.
    Json,
    /// Lines that begin with `log_line_prefix`.
    Stderr(Box<Lines>),
}

/// How lines of stderr are read.
#[derive(Clone, Debug)]
pub struct Lines {
    record: Regex,
    /// The prefix has the SQLSTATE.
    state: bool,
}

/// What a failed login says where there is no SQLSTATE.
const WORDS: [&str; 9] = [
    "authentication failed for user",
    "no pg_hba.conf entry for",
    "pg_hba.conf rejects connection for",
    "is not permitted to log in",
    "empty password returned by client",
    "connection requires a valid client certificate",
    "could not accept SSL connection: certificate",
    "pg_hba.conf rejects replication connection for",
    "no pg_hba.conf entry for replication connection",
];

impl Format {
    /// What `log_destination`, `log_line_prefix` and `lc_messages` say; the richest of several.
    ///
    /// # Errors
    /// A prefix that is no use, or messages that are not English where nothing else tells what they mean.
    pub fn of(destination: &str, prefix: &str, language: &str) -> Result<Self, String> {
        let destinations: Vec<_> = destination.split(',').map(str::trim).collect();
        if destinations.contains(&"csvlog") {
            Ok(Self::Csv)
        } else if destinations.contains(&"jsonlog") {
            Ok(Self::Json)
        } else if destinations.contains(&"stderr") {
            let record =
                Regex::new(&expression(prefix)).map_err(|error| format!("log_line_prefix is no use: {error}"))?;
            let state = prefix.contains("%e");
            let english =
                ["", "C", "POSIX"].contains(&language) || language.starts_with("C.") || language.starts_with("en");
            if !state && !english {
                return Err(format!(
                    "the server logs in the language of {language}, without the code of an error: add %e to log_line_prefix, \
                     or csvlog to log_destination, or set lc_messages to C"
                ));
            }
            Ok(Self::Stderr(Box::new(Lines { record, state })))
        } else {
            Err(format!("log_destination = \"{destination}\" leaves no file to read: add csvlog or stderr"))
        }
    }

    /// Whether a file of this name is in this format.
    pub fn reads(&self, name: &str) -> bool {
        let unreadable = [".xz", ".bz2"].iter().any(|end| name.ends_with(end));
        let is = |end: &str| name.contains(end);
        !unreadable
            && match self {
                Self::Csv => is(".csv"),
                Self::Json => is(".json"),
                Self::Stderr(_) => !is(".csv") && !is(".json"),
            }
    }

    /// How many of these bytes, from the beginning of a record, are whole records.
    pub fn whole(&self, bytes: &[u8]) -> usize {
        let Self::Csv = self else { return bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
        // A field in quotes may hold line ends; a quote within is doubled, which opens and closes.
        let (mut quoted, mut end) = (false, 0);
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => end = at + 1,
                _ => {}
            }
        }
        end
    }

    /// The failed logins in whole records.
    pub fn failures(&self, bytes: &[u8]) -> Vec<Failure> {
        match self {
            Self::Csv => csv(bytes),
            Self::Json => json(bytes),
            Self::Stderr(lines) => lines.failures(&String::from_utf8_lossy(bytes)),
        }
    }
}

fn is_refusal(state: &str) -> bool {
    state == "28000" || state == "28P01"
}

fn csv(bytes: &[u8]) -> Vec<Failure> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let records = reader.byte_records().flatten();
    let failures = records.filter_map(|record| {
        let field = |index| record.get(index).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let state = field(12)?;
        is_refusal(&state).then(|| {
            let address = field(4).unwrap_or_default();
            failure(field(0), field(1), field(2), Some(without_port(&address)), field(13))
        })
    });
    failures.collect()
}

fn json(bytes: &[u8]) -> Vec<Failure> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let failures = lines.filter_map(|line| {
        let record: HashMap<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
        let field = |name: &str| record.get(name)?.as_str().map(str::to_owned);
        is_refusal(&field("state_code")?).then(|| {
            failure(field("timestamp"), field("user"), field("dbname"), field("remote_host"), field("message"))
        })
    });
    failures.collect()
}

impl Lines {
    fn failures(&self, text: &str) -> Vec<Failure> {
        let (mut failures, mut hosts) = (Vec::new(), HashMap::new());
        for line in text.lines() {
            let Some(found) = self.record.captures(line) else { continue };
            let field =
                |name: &str| found.name(name).map(|found| found.as_str().to_owned()).filter(|text| !text.is_empty());
            let (process, message) = (field("process"), field("message").unwrap_or_default());
            // log_connections tells the address where the prefix does not.
            if let (Some(process), Some(rest)) = (&process, message.strip_prefix("connection received: host=")) {
                hosts.insert(process.clone(), rest.split(" port=").next().unwrap_or(rest).to_owned());
                continue;
            }
            let refused = match field("state") {
                Some(state) if self.state => is_refusal(&state),
                _ => field("severity").is_some_and(|severity| severity == "FATAL") && is_told(&message),
            };
            if refused {
                let host = field("host").or_else(|| hosts.get(&process?).cloned());
                let host = host.map(|host| host.split('(').next().unwrap_or_default().to_owned());
                failures.push(failure(field("time"), field("user"), field("database"), host, Some(message)));
            }
        }
        failures
    }
}

fn is_told(message: &str) -> bool {
    WORDS.iter().any(|words| message.contains(words))
        || (message.starts_with("role \"") && message.ends_with("does not exist"))
}

/// A failure, with what the message tells where the record itself does not.
fn failure(
    time: Option<String>,
    user: Option<String>,
    database: Option<String>,
    address: Option<String>,
    message: Option<String>,
) -> Failure {
    let message = message.unwrap_or_default();
    let quoted = |word: &str| {
        let rest = message.split_once(&format!("{word} \""))?.1;
        Some(rest.split('"').next()?.to_owned())
    };
    let known = |field: Option<String>| field.filter(|text| !text.is_empty() && text != "[unknown]");
    Failure {
        time: time.unwrap_or_default(),
        user: known(user).or_else(|| quoted("user")).or_else(|| quoted("role")).unwrap_or_else(|| "unknown".into()),
        database: known(database).or_else(|| quoted("database")).unwrap_or_else(|| "unknown".into()),
        address: known(address)
            .or_else(|| quoted("host"))
            .map(|address| if address == "[local]" { "this machine".into() } else { address })
            .unwrap_or_else(|| "unknown".into()),
        message,
    }
}

/// `10.0.0.1:4711` without its port; an address of IPv6 has more colons.
fn without_port(address: &str) -> String {
    let cut = address.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    cut.map_or(address, |(host, _)| host).to_owned()
}

/// What a line looks like that begins with this prefix.
fn expression(prefix: &str) -> String {
    let mut expression = String::from("^");
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
        let (name, pattern) = match escape {
            'u' => ("user", ".*?"),
            'd' => ("database", ".*?"),
            'r' | 'h' => ("host", r"\S*?"),
            'L' => ("local", r"\S*?"),
            'p' => ("process", r"\d+"),
            't' | 's' => ("time", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+"),
            'm' => ("time", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \S+"),
            'n' => ("time", r"\d+\.\d+"),
            'e' => ("state", "[0-9A-Z]{5}"),
            'q' => continue,
            '%' => {
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
    expression + r"(?P<severity>[^\s:]+):\s+(?P<message>.*)$"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stderr(prefix: &str, text: &str) -> Vec<Failure> {
        Format::of("stderr", prefix, "C").unwrap().failures(text.as_bytes())
    }

    fn told(failures: &[Failure]) -> Vec<String> {
        failures.iter().map(|one| format!("{}/{}/{}/{}", one.time, one.user, one.database, one.address)).collect()
    }

    #[test]
    fn any_prefix() {
        let debian = "2026-11-21 10:00:00.123 UTC [42] app@shop FATAL:  password authentication failed for user \"app\"\n\
                      2026-11-21 10:00:00.123 UTC [42] app@shop DETAIL:  Connection matched file \"pg_hba.conf\"\n";
        assert_eq!(told(&stderr("%m [%p] %q%u@%d ", debian)), ["2026-11-21 10:00:00.123 UTC/app/shop/unknown"]);
        let received =
            "2026-11-21 10:00:00.1 UTC [42] [unknown]@[unknown] LOG:  connection received: host=10.0.0.7 port=5\n";
        let both = stderr("%m [%p] %q%u@%d ", &format!("{received}{debian}"));
        assert_eq!(both[0].address, "10.0.0.7");
        let full = "2026-11-21 10:00:00 UTC:10.1.2.3(5544):bob@db:[77]:FATAL:  password authentication failed for user \"bob\"\n";
        assert_eq!(told(&stderr("%t:%r:%u@%d:[%p]:", full)), ["2026-11-21 10:00:00 UTC/bob/db/10.1.2.3"]);
        let state = "1763719200.123 28P01 10.1.2.3 eve   SCHWERWIEGEND:  Passwort-Authentifizierung fehlgeschlagen\n";
        assert_eq!(told(&stderr("%n %e %h %-5u ", state)), ["1763719200.123/eve/unknown/10.1.2.3"]);
        let none =
            "FATAL:  no pg_hba.conf entry for host \"10.9.9.9\", user \"eve\", database \"shop\", no encryption\n";
        assert_eq!(told(&stderr("", none)), ["/eve/shop/10.9.9.9"]);
        let german = |prefix: &str| Format::of("stderr", prefix, "de_DE.UTF-8").map(|_| ()).unwrap_err();
        assert!(german("%m [%p] ").contains("add %e to log_line_prefix"));
        let role = "FATAL:  role \"nobody\" does not exist\nFATAL:  database \"x\" does not exist\nERROR:  42\n";
        assert_eq!(told(&stderr("", role)), ["/nobody/unknown/unknown"]);
    }

    #[test]
    fn csv_with_line_ends_in_a_field_and_json() {
        let line = |state: &str, message: &str| {
            format!(
                "2026-11-21 10:00:00.123 UTC,\"app\",\"shop\",42,\"10.0.0.1:5432\",6740.2a,1,\"authentication\",2026-11-21 10:00:00 UTC,3/1,0,FATAL,{state},\"{message}\",,,,,,,,,\"\",\"client backend\",,0\n"
            )
        };
        let text =
            line("42P01", "relation \"\"x\"\"\ndoes not exist") + &line("28P01", "password authentication failed");
        let format = Format::of("csvlog, stderr", "", "C").unwrap();
        assert_eq!(told(&format.failures(text.as_bytes())), ["2026-11-21 10:00:00.123 UTC/app/shop/10.0.0.1"]);
        let cut = &text.as_bytes()[..text.len() - 10];
        assert_eq!(format.whole(cut), text.find("\n2026").unwrap() + 1, "the second record is not whole");
        assert!(format.reads("postgresql.csv") && !format.reads("postgresql.log"));
        let json = br#"{"timestamp":"2026-11-21 10:00:00.123 UTC","user":"app","dbname":"shop","remote_host":"10.0.0.2","error_severity":"FATAL","state_code":"28000","message":"no pg_hba.conf entry"}
"#;
        let format = Format::of("jsonlog", "", "C").unwrap();
        assert_eq!(told(&format.failures(json)), ["2026-11-21 10:00:00.123 UTC/app/shop/10.0.0.2"]);
    }
}
