//! The types an option may have: how each is written, read and refused.

use super::{address::MailAddress, suggest::nearest};
use crate::schedule::{Blackout, CatchUp, Schedule};
use bytesize::ByteSize;
use figment::value::Value;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A type that can be the value of an option.
pub trait Setting: Sized {
    /// What is expected, as it completes "expected …".
    const EXPECTS: &'static str;
    /// Never shown, and refused in a configuration file's text.
    const SECRET: bool = false;
    /// Any text is one, so that a variable of the environment is taken as it is.
    const TEXT: bool = false;
    /// May be left out.
    const OPTIONAL: bool = false;

    /// Reads a value, with the names the configuration defines at hand.
    fn read(value: &Value, known: &KnownNames) -> Result<Self, Refusal>;

    /// The value of an option that is left out and has no default.
    fn absent() -> Option<Self> {
        None
    }
}

/// The names a configuration defines, for options that refer to them.
#[derive(Clone, Debug, Default)]
pub struct KnownNames {
    /// `[clusters.NAME]`.
    pub clusters: Vec<String>,
    /// `[repositories.NAME]`.
    pub repositories: Vec<String>,
    /// `[groups.NAME]` and the built-in ones.
    pub groups: Vec<String>,
    /// `mail` and `[channels.NAME]`.
    pub channels: Vec<String>,
}

/// Why a value was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// "expected …".
    pub fn expected(what: impl std::fmt::Display) -> Self {
        Self { message: format!("expected {what}"), hint: None }
    }

    fn with_nearest<'a>(mut self, word: &str, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.hint = nearest(word, words).map(|near| format!("did you mean \"{near}\"?"));
        self
    }
}

fn text<T: Setting>(value: &Value) -> Result<&str, Refusal> {
    value.as_str().ok_or_else(|| Refusal::expected(T::EXPECTS))
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    const SECRET: bool = T::SECRET;
    const TEXT: bool = T::TEXT;
    const OPTIONAL: bool = true;

    fn read(value: &Value, known: &KnownNames) -> Result<Self, Refusal> {
        T::read(value, known).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Lists of a type: what is expected of the list, as each element's own words would not say "list".
macro_rules! lists {
    ($($type:ty: $expects:literal;)+) => {$(
        impl Setting for Vec<$type> {
            const EXPECTS: &'static str = $expects;

            fn read(value: &Value, known: &KnownNames) -> Result<Self, Refusal> {
                let items = value.as_array().ok_or_else(|| Refusal::expected(Self::EXPECTS))?;
                items.iter().map(|item| <$type>::read(item, known)).collect()
            }
        }
    )+};
}

lists! {
    String: "a list of strings such as [\"a\", \"b\"]";
    PathBuf: "a list of paths such as [\"/var/lib/postgresql\"]";
    Blackout: "a list of windows such as [\"Mon-Fri 08:00-18:00\"]";
    RepositoryName: "a list of repositories such as [\"local\"]";
    GroupName: "a list of groups such as [\"database\"]";
    ChannelName: "a list of channels such as [\"mail\"]";
    MailAddress: "a list of mail addresses such as [\"dba@example.com\"]";
}

impl Setting for String {
    const EXPECTS: &'static str = "a string in quotes";
    const TEXT: bool = true;

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        text::<Self>(value).map(str::to_owned)
    }
}

impl Setting for PathBuf {
    const EXPECTS: &'static str = "an absolute path such as \"/var/lib/pgbosun\"";

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        match text::<Self>(value)? {
            path if path.starts_with('/') => Ok(path.into()),
            _ => Err(Refusal::expected(Self::EXPECTS)),
        }
    }
}

impl Setting for bool {
    const EXPECTS: &'static str = "true or false";

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        value.to_bool().ok_or_else(|| Refusal::expected(Self::EXPECTS))
    }
}

macro_rules! numbers {
    ($($type:ty: $expects:literal;)+) => {$(
        impl Setting for $type {
            const EXPECTS: &'static str = $expects;

            fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
                value
                    .to_i128()
                    .or_else(|| value.to_u128().and_then(|n| i128::try_from(n).ok()))
                    .and_then(|n| n.try_into().ok())
                    .ok_or_else(|| Refusal::expected(Self::EXPECTS))
            }
        }
    )+};
}

numbers! {
    u8: "a whole number from 0 to 255";
    u16: "a whole number from 0 to 65535";
    u32: "a whole number, 0 or more";
}

impl Setting for f64 {
    const EXPECTS: &'static str = "a number";

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        value
            .to_f64()
            .or_else(|| value.to_i128().map(|n| n as f64))
            .or_else(|| value.to_u128().map(|n| n as f64))
            .ok_or_else(|| Refusal::expected(Self::EXPECTS))
    }
}

/// Types read from a text by their own parser, whose words say why a text was refused.
macro_rules! parsed {
    ($($type:ty: $expects:literal, $parse:expr;)+) => {$(
        impl Setting for $type {
            const EXPECTS: &'static str = $expects;

            fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
                $parse(text::<Self>(value)?).map_err(|reason| Refusal {
                    message: format!("expected {} ({reason})", Self::EXPECTS),
                    hint: None,
                })
            }
        }
    )+};
}

parsed! {
    Duration: "a duration such as \"90s\", \"15m\", \"6h\" or \"30d\"", humantime::parse_duration;
    ByteSize: "a size such as \"64MiB\" or \"5GB\"", str::parse::<ByteSize>;
    Schedule: "a schedule such as \"59 23 * * *\" or \"@hourly\"", str::parse::<Schedule>;
    Blackout: "a window such as \"Mon-Fri 08:00-18:00\"", str::parse::<Blackout>;
    Rate: "a size per second, at least \"1KiB\", such as \"50MiB\"", str::parse::<Rate>;
    Patience: "a number of checks or a time, such as \"3 checks\" or \"10m\"", str::parse::<Patience>;
    MailAddress: "a mail address such as \"dba@example.com\" or \"pgbosun <alerts@example.com>\"", str::parse::<MailAddress>;
    Listen: "an address such as \"127.0.0.1:9875\", or \"off\"", str::parse::<Listen>;
}

/// So many bytes a second at most. Never so few that what is limited would not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(ByteSize);

impl Rate {
    /// Bytes a second.
    pub const fn bytes(self) -> u64 {
        self.0.as_u64()
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<ByteSize>()? {
            rate if rate.as_u64() < 1024 => Err("the minimum is 1 KiB; leave it out for no limit".into()),
            rate => Ok(Self(rate)),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a problem must be there before it is an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// So many checks in a row must see it.
    Checks(u32),
    /// So long after the first check that saw it.
    Time(Duration),
}

impl std::str::FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = ["checks", "check", "looks", "look"];
        match words.iter().find_map(|word| text.strip_suffix(word)) {
            Some(number) => match number.trim().parse() {
                Ok(checks @ 1..) => Ok(Self::Checks(checks)),
                _ => Err(format!("\"{}\" is not a number of checks", number.trim())),
            },
            None => humantime::parse_duration(text).map(Self::Time).map_err(|error| error.to_string()),
        }
    }
}

impl std::fmt::Display for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Checks(checks) => write!(f, "{checks} checks"),
            Self::Time(time) => f.write_str(&crate::human::duration(*time)),
        }
    }
}

/// Where a server listens, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl std::str::FromStr for Listen {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

impl Setting for chrono_tz::Tz {
    const EXPECTS: &'static str = "a time zone such as \"Europe/Berlin\" or \"UTC\"";

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        let word = text::<Self>(value)?;
        word.parse().map_err(|_| {
            Refusal::expected(Self::EXPECTS).with_nearest(word, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()))
        })
    }
}

impl Setting for CatchUp {
    const EXPECTS: &'static str = "\"none\" or \"once\"";

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        match text::<Self>(value)? {
            "none" => Ok(Self::None),
            "once" => Ok(Self::Once),
            word => Err(Refusal::expected(Self::EXPECTS).with_nearest(word, ["none", "once"])),
        }
    }
}

/// Names of something the configuration defines elsewhere.
macro_rules! names {
    ($($(#[$meta:meta])* $name:ident: $expects:literal, $list:ident;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub String);

        impl Setting for $name {
            const EXPECTS: &'static str = $expects;

            fn read(value: &Value, known: &KnownNames) -> Result<Self, Refusal> {
                let word = text::<Self>(value)?;
                if known.$list.iter().any(|name| name == word) {
                    return Ok(Self(word.to_owned()));
                }
                let names = known.$list.iter().map(String::as_str);
                let refusal = Refusal::expected(Self::EXPECTS).with_nearest(word, names);
                Err(if refusal.hint.is_none() {
                    let defined = if known.$list.is_empty() { "none".to_owned() } else { known.$list.join(", ") };
                    Refusal { hint: Some(format!("\"{word}\" is not defined; defined: {defined}")), ..refusal }
                } else {
                    refusal
                })
            }
        }
    )+};
}

names! {
    /// A cluster of the configuration.
    ClusterName: "the name of a cluster defined under [clusters.NAME]", clusters;
    /// A repository of the configuration.
    RepositoryName: "the name of a repository defined under [repositories.NAME]", repositories;
    /// A channel of the configuration.
    ChannelName: "the name of a channel: mail, or one defined under [channels.NAME]", channels;
    /// An operator group of the configuration.
    GroupName: "the name of a group: database, security, system, or one under [groups.NAME]", groups;
}

/// Makes a [`words!`](crate::words) enum an option type.
#[macro_export]
macro_rules! word_settings {
    ($($type:ty: $expects:literal;)+) => {$(
        impl $crate::config::Setting for $type {
            const EXPECTS: &'static str = $expects;

            fn read(
                value: &$crate::config::RawValue,
                _: &$crate::config::KnownNames,
            ) -> Result<Self, $crate::config::Refusal> {
                let word = value.as_str().unwrap_or_default();
                word.parse().map_err(|_| {
                    let mut refusal = $crate::config::Refusal::expected(Self::EXPECTS);
                    refusal.hint = $crate::config::nearest(word, Self::WORDS.iter().copied())
                        .map(|near| format!("did you mean \"{near}\"?"));
                    refusal
                })
            }
        }
    )+};
}
