//! Addresses of mail, as people write them.

use std::{fmt, str::FromStr};

/// A mail address, with or without a name before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailAddress(String);

impl MailAddress {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MailAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let address = email_address::EmailAddress::from_str(text).map_err(|error| error.to_string())?;
        // What a mail server takes: letters beyond ASCII have a form of their own in a domain (RFC 5891).
        idna::domain_to_ascii_strict(address.domain())
            .map_err(|_| format!("\"{}\" is not a domain", address.domain()))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for good in [
            "dba@example.com",
            "pgbosun <pgbosun@example.com>",
            "root@localhost",
            "jürg@example.com",
            "dba@bücher.example",
        ] {
            assert_eq!(good.parse::<MailAddress>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "dba",
            "dba@",
            "@example.com",
            "a b@example.com",
            "pgbosun <pgbosun@example.com",
            "dba@exa mple.com",
            "dba@-",
        ] {
            assert!(bad.parse::<MailAddress>().is_err(), "{bad}");
        }
    }
}
