//! JSON objects that carry the SHA-256 of their own fields: catalogues, notes, leases, the identity.
//!
//! C36: what lies in a repository may be anything. Only an object gets as far as its fields; whatever else JSON allows is
//! damage like any other.

use crate::Error;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The fields of an object, sorted by name, so that the same content has the same bytes.
pub(crate) type Fields = Map<String, Value>;

const CHECKSUM: &str = "checksum";

fn damaged(object: &str) -> impl Fn(serde_json::Error) -> Error {
    move |error| Error::Damaged { object: object.to_owned(), reason: error.to_string() }
}

/// SHA-256 of the fields as compact JSON, with the checksum itself empty.
pub(crate) fn checksum(mut fields: Fields) -> String {
    fields.insert(CHECKSUM.into(), "".into());
    hex::encode(Sha256::digest(Value::Object(fields).to_string()))
}

/// The fields of a value that is to be written.
pub(crate) fn fields<T: Serialize>(object: &str, value: &T) -> Result<Fields, Error> {
    serde_json::to_value(value).and_then(serde_json::from_value).map_err(Error::serialize(object))
}

/// The bytes of an object, with its checksum.
pub(crate) fn seal(object: &str, mut fields: Fields) -> Result<Vec<u8>, Error> {
    let sum = checksum(fields.clone());
    fields.insert(CHECKSUM.into(), sum.into());
    serde_json::to_vec_pretty(&fields).map_err(Error::serialize(object))
}

/// The fields that were read, whether or not they are what was written.
pub(crate) fn parse(object: &str, bytes: &[u8]) -> Result<Fields, Error> {
    serde_json::from_slice(bytes).map_err(damaged(object))
}

/// The value that was written, where the checksum matches.
pub(crate) fn open<T: DeserializeOwned>(object: &str, fields: Fields) -> Result<T, Error> {
    let written = fields.get(CHECKSUM).and_then(Value::as_str).unwrap_or_default();
    if checksum(fields.clone()) != written {
        let reason = "its own checksum does not match".into();
        return Err(Error::Damaged { object: object.to_owned(), reason });
    }
    serde_json::from_value(Value::Object(fields)).map_err(damaged(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection, prelude::*};

    /// Any JSON, objects with a checksum of any kind among it.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let names = prop_oneof![Just("checksum".to_owned()), Just("format".to_owned()), "[a-z]{1,3}"];
            prop_oneof![
                collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                collection::btree_map(names, inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn c36_what_is_no_object_is_damage_and_no_panic() {
        for bytes in ["[]", "[{}]", "1", "1e400", "\"x\"", "true", "null", "", "{", "\u{0}"] {
            let error = parse("main/7/accepted.json", bytes.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("main/7/accepted.json is damaged: "), "{bytes}: {error}");
            let error = crate::BackupInfo::from_bytes("backup.json", bytes.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{bytes}: {error}");
        }
    }

    proptest! {
        #[test]
        fn c36_no_json_makes_a_reader_panic(value in json()) {
            let bytes = value.to_string();
            prop_assert_eq!(parse("x", bytes.as_bytes()).is_ok(), value.is_object());
            let read = parse("x", bytes.as_bytes()).and_then(|fields| open::<Value>("x", fields));
            prop_assert!(read.is_err(), "nobody sealed it");
            prop_assert!(crate::BackupInfo::from_bytes("x", bytes.as_bytes()).is_err());
        }

        #[test]
        fn what_was_sealed_opens(value in json()) {
            let Value::Object(fields) = value else { return Ok(()) };
            let bytes = seal("x", fields.clone()).unwrap();
            let mut opened: Fields = open("x", parse("x", &bytes).unwrap()).unwrap();
            opened.remove(CHECKSUM);
            prop_assert_eq!(opened, fields.into_iter().filter(|(name, _)| name != CHECKSUM).collect::<Fields>());
        }
    }
}
