//! Sections whose `type` decides which options they have: the stores of repositories, and what is at the other end of channels.
//!
//! Invariant: the options of a type are declared beside what implements it; the configuration only knows the list of types it is given.

use super::{
    load::dict_of,
    reader::{Findings, OptionDoc, Reader, Section},
    setting::{KnownNames, Refusal, Setting},
    suggest::nearest,
};
use figment::value::Value;
use std::{any::Any, fmt::Debug, path::Path, sync::Arc};

/// A type that a section can have, with the options that come with it, as a `T`.
pub struct Variant<T: ?Sized> {
    /// What `type` says.
    pub name: &'static str,
    /// What it is.
    pub about: &'static [&'static str],
    /// Its own options.
    pub options: &'static [OptionDoc],
    /// Reads and checks them; `None` where a problem was recorded.
    pub read: fn(&mut Reader<'_>) -> Option<Arc<T>>,
}

impl<T: ?Sized> Clone for Variant<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Variant<T> {}

/// The options that a store adds to those of every repository.
pub trait StoreOptions: Any + Debug + Send + Sync {
    /// Where it is, exactly: two repositories of which this is equal are in the same place. It is kept by installations.
    fn place(&self) -> String;

    /// Where it is, as people know it.
    fn shown(&self) -> String;

    /// Its directory, where it is on this machine.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// Files that nobody else may read.
    fn secret_files(&self) -> Vec<&Path> {
        Vec::new()
    }
}

/// The options that a type of channel adds to those of every channel.
pub trait ChannelOptions: Any + Debug + Send + Sync {
    /// Files that nobody else may read.
    fn secret_files(&self) -> Vec<&Path> {
        Vec::new()
    }
}

/// The value of `type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName(pub String);

impl Setting for TypeName {
    const EXPECTS: &'static str = "the name of a type; each has a section of its own below";
    const OPTIONAL: bool = false;

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        value.as_str().map(|name| Self(name.to_owned())).ok_or_else(|| Refusal::expected(Self::EXPECTS))
    }
}

/// Reads a section of something that has types: what every type has, `C`, and what its own has. `None` where a problem was recorded.
pub(super) fn read_variant<C: Section, T: ?Sized>(
    gathered: &mut Findings,
    path: String,
    value: Value,
    (what, variants): (&str, &[Variant<T>]),
    check: impl FnOnce(&mut Reader<'_>, &C, Option<&Arc<T>>),
) -> Option<(C, Arc<T>)> {
    let tag = value.tag();
    let dict = dict_of(gathered, &path, value)?;
    let named = dict.get("type").cloned();
    let mut reader = Reader::new(path, tag, dict, gathered);
    let Some(variant) = variants.iter().find(|variant| named.as_ref().and_then(Value::as_str) == Some(variant.name))
    else {
        let names = variants.iter().map(|variant| format!("\"{}\"", variant.name)).collect::<Vec<_>>().join(", ");
        match named {
            Some(value) => {
                let word = value.as_str().unwrap_or_default();
                let near = nearest(word, variants.iter().map(|variant| variant.name));
                let hint = near.map_or_else(|| format!("one of {names}"), |near| format!("did you mean \"{near}\"?"));
                reader.refuse_key("type", format!("\"{word}\" is not a type of {what}"), Some(hint));
            }
            None => reader.refuse("type", format!("is missing: expected one of {names}"), None),
        }
        return None; // Which other keys are valid, only the type could say.
    };
    let common = C::read(&mut reader);
    let own = (variant.read)(&mut reader);
    for key in reader.left() {
        let has = |other: &&Variant<T>| other.options.iter().any(|option| option.key() == key);
        let owners: Vec<_> = variants.iter().filter(has).map(|other| other.name).collect();
        if !owners.is_empty() {
            reader.refuse_key(
                &key,
                format!("is an option of type {}, not of {}", owners.join(", "), variant.name),
                None,
            );
        }
    }
    if let Some(common) = &common {
        check(&mut reader, common, own.as_ref());
    }
    reader.finish();
    common.zip(own)
}
