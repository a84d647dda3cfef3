//! Configuration that is not in the data directory: `postmaster.opts` says where the server was told to find it, and the last
//! word of that file and of `postgresql.auto.conf` where access and key are. What is only included is not seen.

use super::Allowed;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Settings that name a file which at most the group may read.
const NAMED: [&str; 3] = ["hba_file", "ident_file", "ssl_key_file"];

/// What belongs to the server of this data directory and lies outside it.
pub fn files(data: &Path) -> Vec<(PathBuf, Allowed)> {
    let said = fs::read_to_string(data.join("postmaster.opts")).unwrap_or_default();
    let file = config_file(&said).map(|file| data.join(file));
    let mut settings = BTreeMap::new();
    // Debian lets everybody read postgresql.conf: it holds no secret that the server does not show.
    let mut found: Vec<_> = file.iter().map(|file| (file.clone(), Allowed::AllRead)).collect();
    let main = file.unwrap_or_else(|| data.join("postgresql.conf"));
    for file in [main, data.join("postgresql.auto.conf")] {
        let text = fs::read_to_string(file).unwrap_or_default();
        settings.extend(text.lines().filter_map(setting));
    }
    found.extend(NAMED.iter().filter_map(|name| Some((data.join(settings.get(*name)?), Allowed::GroupReads))));
    found.retain(|(path, _)| !path.starts_with(data));
    found
}

/// The words after the program are each in double quotes.
fn config_file(options: &str) -> Option<&str> {
    let words = options.split('"');
    words
        .filter_map(|word| word.trim_start_matches('-').split_once('='))
        .find_map(|(name, value)| ["config_file", "config-file"].contains(&name).then_some(value))
}

/// `name = 'value'`, where the sign is optional, and a quote within is doubled.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|end| *end > 0)?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        None => rest.split(|c: char| c.is_whitespace() || c == '#').next()?.to_owned(),
        Some(quoted) => {
            let mut value = String::new();
            let mut characters = quoted.chars().peekable();
            while let Some(character) = characters.next() {
                if character == '\'' && characters.next_if_eq(&'\'').is_none() {
                    break;
                }
                value.push(character);
            }
            value
        }
    };
    Some((name.to_ascii_lowercase(), value)).filter(|(_, value)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debian_keeps_under_etc_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (data, etc) = (directory.path().join("data"), directory.path().join("etc"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&etc).unwrap();
        let main = etc.join("postgresql.conf");
        let text = "data_directory = '/x'\n# hba_file = 'not this'\nhba_file='/etc/a/pg_hba.conf' # a comment\n\
                    ident_file /etc/a/pg_ident.conf\nssl_key_file = 'server.key'\ninclude_dir = 'conf.d'\n";
        fs::write(&main, text).unwrap();
        let options =
            format!("/usr/bin/postgres \"-D\" \"{}\" \"-c\" \"config_file={}\"\n", data.display(), main.display());
        fs::write(data.join("postmaster.opts"), options).unwrap();
        let found = |data: &Path| {
            let found = files(data).into_iter();
            found.map(|(path, allowed)| (path.to_string_lossy().into_owned(), allowed)).collect::<Vec<_>>()
        };
        let expected = |hba: &str| {
            vec![
                (main.to_string_lossy().into_owned(), Allowed::AllRead),
                (hba.to_owned(), Allowed::GroupReads),
                ("/etc/a/pg_ident.conf".to_owned(), Allowed::GroupReads),
            ]
        };
        assert_eq!(
            found(&data),
            expected("/etc/a/pg_hba.conf"),
            "the key is in the data directory, which is watched anyway"
        );
        fs::write(data.join("postgresql.auto.conf"), "hba_file = '/it''s/pg_hba.conf'\n").unwrap();
        assert_eq!(found(&data), expected("/it's/pg_hba.conf"));
        fs::remove_file(data.join("postmaster.opts")).unwrap();
        fs::write(data.join("postgresql.auto.conf"), "").unwrap();
        assert_eq!(found(&data), []);
    }
}
