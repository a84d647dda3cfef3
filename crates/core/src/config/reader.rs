//! Declaring sections of options, and reading one section: every key by itself, so that all mistakes are found.

use super::{
    load::BUILT_IN_GROUPS,
    problem::Problem,
    secret::Secret,
    setting::{KnownNames, Setting},
    suggest::nearest,
};
use figment::{
    Figment,
    providers::{Format, Toml},
    value::{Dict, Tag, Value},
};
use std::path::Path;

/// One documented option.
#[derive(Clone, Copy, Debug)]
pub struct OptionDoc {
    /// The field; the key has `-` for `_`.
    pub field: &'static str,
    /// The default as TOML, if it has one.
    pub default: &'static [&'static str],
    /// What is expected of a value.
    pub expects: &'static str,
    /// Whether it may be left out without a default.
    pub optional: bool,
    /// Whether a change needs a restart; a reload applies the others.
    pub restart: bool,
    /// What it means, line by line.
    pub doc: &'static [&'static str],
}

impl OptionDoc {
    /// The key as written.
    pub fn key(&self) -> String {
        self.field.trim_start_matches("r#").replace('_', "-")
    }
}

/// A section whose options are declared by [`options!`](crate::options).
pub trait Section: Sized {
    /// What the section is for.
    const ABOUT: &'static [&'static str];
    /// Its options, in order.
    const OPTIONS: &'static [OptionDoc];

    /// Reads the section; `None` where a problem was recorded.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// Declares a section: a struct whose fields are options.
///
/// `name: Type = "default as TOML", restart;`: no default and no `Option` means required; `restart` marks
/// what a reload does not apply. The doc comments are the documentation of the option, for code and users.
#[macro_export]
macro_rules! options {
    ($(#[doc = $about:literal])+ pub struct $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty $(= $default:literal)? $(, $restart:ident)?;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $type,)* }

        impl $crate::config::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const OPTIONS: &'static [$crate::config::OptionDoc] = &[$($crate::config::OptionDoc {
                field: stringify!($field),
                default: &[$($default)?],
                expects: <$type as $crate::config::Setting>::EXPECTS,
                optional: <$type as $crate::config::Setting>::OPTIONAL,
                restart: $crate::options!(@restart $($restart)?),
                doc: &[$($doc),+],
            }),*];

            fn read(reader: &mut $crate::config::Reader<'_>) -> Option<Self> {
                let mut docs = Self::OPTIONS.iter();
                $(let $field = docs.next().and_then(|doc| reader.take::<$type>(doc));)*
                let _ = docs.next();
                Some(Self { $($field: $field?),* })
            }
        }
    };
    (@restart) => { false };
    (@restart restart) => { true };
}

/// One key of the effective configuration, for `config show`.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The section's path.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value as TOML, masked where it is a secret.
    pub value: String,
    /// Where it comes from: a file, a variable, or `default`.
    pub source: String,
}

/// What is gathered while a configuration is read.
pub(super) struct Findings {
    pub figment: Figment,
    pub known: KnownNames,
    pub problems: Vec<Problem>,
    pub effective: Vec<Effective>,
    /// Whether a secret that cannot be read is a problem.
    pub secrets: bool,
}

impl Findings {
    /// Nothing found yet.
    pub fn of(figment: Figment, secrets: bool) -> Self {
        Self { figment, known: KnownNames::default(), problems: Vec::new(), effective: Vec::new(), secrets }
    }

    pub fn source_of(&self, tag: Tag, path: &str) -> (String, bool) {
        let Some(metadata) = self.figment.get_metadata(tag) else { return ("default".into(), false) };
        match metadata.source.as_ref().and_then(figment::Source::file_path) {
            Some(file) => (file.display().to_string(), true),
            None => (format!("environment: {}", super::load::variable(path)), false),
        }
    }

    /// What the environment says in so many bytes, where that is where this value comes from.
    fn said_in_environment(&self, value: &Value, path: &str) -> Option<String> {
        let from = self.figment.get_metadata(value.tag())?;
        from.source.is_none().then(|| super::load::said_in_environment(path)).flatten()
    }

    pub fn refuse(&mut self, tag: Tag, key: &str, value: Option<String>, message: String, hint: Option<String>) {
        let source = self.source_of(tag, key).0;
        self.problems.push(Problem { source, key: key.to_owned(), value, message, hint });
    }
}

/// Reads one section: takes known keys out, and refuses what is left.
pub struct Reader<'a> {
    path: String,
    tag: Tag,
    dict: Dict,
    /// Keys that belong here beside those taken, for hints.
    valid: Vec<String>,
    gathered: &'a mut Findings,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: String, tag: Tag, dict: Dict, gathered: &'a mut Findings) -> Self {
        Self { path, tag, dict, valid: Vec::new(), gathered }
    }

    /// Sets a secret from its file, or from the credential that is called as this section and `name`.
    pub fn resolve(&mut self, key: &str, secret: &mut Option<Secret>, file: Option<&Path>, name: &str) {
        match file.map(|file| (file, Secret::from_file(file))) {
            Some((_, Ok(read))) => *secret = Some(read),
            // Whoever needs no secret.
            Some((file, Err(_))) if !self.gathered.secrets => *secret = Some(Secret::unread(file)),
            Some((file, Err(reason))) => {
                let hint = reason.contains("open to others").then(|| format!("run: chmod 0600 {}", file.display()));
                self.refuse(key, format!("{} {reason}", file.display()), hint);
            }
            None if secret.is_none() => *secret = Secret::from_credential(&format!("{}.{name}", self.path)),
            None => {}
        }
    }

    /// Whether an option of this section was set, and is not its default.
    pub fn is_given(&self, key: &str) -> bool {
        let mut known = self.gathered.effective.iter().filter(|known| known.section == self.path);
        known.any(|known| known.key == key && known.source != "default")
    }

    /// The keys that nobody has taken so far.
    pub(super) fn left(&self) -> Vec<String> {
        self.dict.keys().cloned().collect()
    }

    /// Refuses a key that is there, and takes it out. Its value is not shown (C25): it may be a secret.
    pub(super) fn refuse_key(&mut self, key: &str, message: String, hint: Option<String>) {
        if let Some(value) = self.dict.remove(key) {
            self.gathered.refuse(value.tag(), &format!("{}.{key}", self.path), None, message, hint);
        }
    }

    /// Refuses a section that lacks an option which its type needs.
    pub fn require(&mut self, key: &str, is_there: bool, whose: &str) {
        if !is_there {
            self.refuse(key, format!("is missing: {whose} needs it"), None);
        }
    }

    /// Takes one option out of the section; `None` where a problem was recorded.
    pub fn take<T: Setting>(&mut self, doc: &OptionDoc) -> Option<T> {
        let key = doc.key();
        let path = format!("{}.{key}", self.path);
        self.valid.push(key.clone());
        let given = self.dict.remove(&key);
        let value = match (given, doc.default.first()) {
            (Some(value), _) => value,
            (None, Some(default)) => parse_default(default),
            (None, None) => {
                let absent = T::absent();
                if absent.is_none() {
                    let (message, hint) = (format!("is missing: expected {}", T::EXPECTS), None);
                    self.gathered.refuse(self.tag, &path, None, message, hint);
                }
                return absent;
            }
        };
        let (source, in_file) = self.gathered.source_of(value.tag(), &path);
        if T::SECRET && in_file {
            let hint = format!("put it in a file of mode 0600 and set {key}-file to its path");
            self.gathered.refuse(value.tag(), &path, None, "a secret does not belong here".into(), Some(hint));
            return None;
        }
        let value = match T::TEXT.then(|| self.gathered.said_in_environment(&value, &path)).flatten() {
            Some(text) => Value::String(value.tag(), text),
            None => value,
        };
        let shown = if T::SECRET { "\"********\"".to_owned() } else { render(&value) };
        match T::read(&value, &self.gathered.known) {
            Ok(read) => {
                self.gathered.effective.push(Effective { section: self.path.clone(), key, value: shown, source });
                Some(read)
            }
            Err(refusal) => {
                let shown = (!T::SECRET).then_some(shown);
                self.gathered.refuse(value.tag(), &path, shown, refusal.message, refusal.hint);
                None
            }
        }
    }

    /// The names the configuration defines.
    pub fn known(&self) -> &KnownNames {
        &self.gathered.known
    }

    /// Records a problem of this section that no single value shows.
    pub fn refuse(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.gathered.refuse(self.tag, &path, None, message.into(), hint);
    }

    /// Refuses an address that is none for HTTP, or that holds a user or a password (C25): they would be in logs and errors.
    pub fn check_address(&mut self, key: &str, address: Option<&str>) {
        let Some(address) = address else { return };
        let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
        match rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default()) {
            None | Some("") => self.refuse(key, "expected a URL that starts with https:// or http://", None),
            Some(host) if host.contains('@') => {
                self.refuse(key, "contains a user or a password, which do not belong in a URL", None);
            }
            Some(_) => {}
        }
    }

    /// Refuses every key that nobody took, with the nearest valid one.
    pub(super) fn finish(self) {
        for (key, value) in &self.dict {
            let path = format!("{}.{key}", self.path);
            let hint = match nearest(key, self.valid.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("valid here: {}", self.valid.join(", ")),
            };
            self.gathered.refuse(value.tag(), &path, None, "unknown key".into(), Some(hint));
        }
    }
}

/// The options of a section of which nothing is configured; none where one has no default.
pub fn defaults<T: Section>() -> Option<T> {
    // They may name what every configuration has.
    let groups = BUILT_IN_GROUPS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let known = KnownNames { groups, ..KnownNames::default() };
    let mut gathered = Findings { known, ..Findings::of(Figment::new(), true) };
    T::read(&mut Reader::new(String::new(), Tag::Default, Dict::new(), &mut gathered))
}

fn parse_default(default: &str) -> Value {
    // A default that does not parse reads as its own text; the reference test finds it.
    let parsed = Figment::from(Toml::string(&format!("value = {default}"))).find_value("value");
    parsed.unwrap_or_else(|_| Value::from(default))
}

/// A value as TOML.
pub(super) fn render(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, text) => format!("{text:?}"),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(n), ..) => n.to_string(),
            (_, Some(n), _) => n.to_string(),
            (.., Some(n)) => n.to_string(),
            _ => String::new(),
        },
        Value::Empty(..) => "\"\"".into(),
        Value::Array(_, items) => format!("[{}]", items.iter().map(render).collect::<Vec<_>>().join(", ")),
        Value::Dict(_, dict) => {
            let pairs: Vec<_> = dict.iter().map(|(key, value)| format!("{key} = {}", render(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}
