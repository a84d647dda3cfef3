//! Names of files as text: in lists, as keys, in JSON.
//!
//! A file name is bytes, and two names that are no UTF-8 must stay two. Invariant: `from_text(to_text(name)) == name` for
//! every name, and a name that is UTF-8 is its own text, so that lists of earlier versions read as they were written. Each
//! byte that is no UTF-8 becomes NUL and two hexadecimal digits: no file name holds a NUL, so nothing else is spelled so.

use std::{ffi::OsString, fmt::Write as _, os::unix::ffi::OsStringExt, path::PathBuf};

const ESCAPE: char = '\0';

/// The text of a name.
pub fn to_text(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "{ESCAPE}{byte:02x}");
        }
    }
    text
}

/// The name that a text stands for.
pub fn from_text(text: &str) -> Vec<u8> {
    let mut parts = text.split(ESCAPE);
    let mut name = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        // What is spelled otherwise came from elsewhere: the NUL stays, and no file system takes it.
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                name.push(byte);
                name.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                name.push(0);
                name.extend_from_slice(part.as_bytes());
            }
        }
    }
    name
}

/// The path that a text stands for.
pub fn to_path(text: &str) -> PathBuf {
    OsString::from_vec(from_text(text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_name_has_a_text_of_its_own(name in proptest::collection::vec(1_u8..=255, 0..40)) {
            proptest::prop_assert_eq!(from_text(&to_text(&name)), name);
        }

        #[test]
        fn a_name_that_is_utf8_is_its_own_text(name in "[^\\x00]{0,40}") {
            proptest::prop_assert_eq!(to_text(name.as_bytes()), name);
        }

        #[test]
        fn any_text_has_a_name(text in "\\PC{0,20}\\x00?\\PC{0,20}") {
            from_text(&text);
        }
    }

    #[test]
    fn names_that_look_alike_stay_apart() {
        let texts = [to_text(b"base/\xff"), to_text(b"base/\xfe"), to_text("base/\u{fffd}".as_bytes())];
        assert_eq!(texts, ["base/\0ff", "base/\0fe", "base/\u{fffd}"]);
    }
}
