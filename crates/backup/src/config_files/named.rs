//! Which files a configuration file names: `include` and its like, and lists of names (`@file`) of `pg_hba.conf`.

use crate::settings::parse_line;
use std::path::{Component, Path, PathBuf};

/// A file or directory that is read as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub path: String,
    pub is_directory: bool,
}

/// What a file of settings includes.
pub(super) fn setting_names(bytes: &[u8]) -> Vec<Named> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter_map(parse_line);
    lines.filter_map(|(name, path)| Some(Named { is_directory: includes(&name)?, path })).collect()
}

/// Whether a directive includes a directory or a file; `None` for anything else.
fn includes(directive: &str) -> Option<bool> {
    match directive {
        "include" | "include_if_exists" => Some(false),
        "include_dir" => Some(true),
        _ => None,
    }
}

/// What `pg_hba.conf` or `pg_ident.conf` includes (PostgreSQL: `tokenize_auth_file`).
pub(super) fn auth_names(bytes: &[u8]) -> Vec<Named> {
    let text = String::from_utf8_lossy(bytes);
    let mut named = Vec::new();
    for line in text.lines() {
        let tokens = tokens(line);
        if let [(directive, false), (path, _)] = tokens.as_slice()
            && let Some(is_directory) = includes(directive)
        {
            named.push(Named { path: path.clone(), is_directory });
            continue;
        }
        let lists = tokens.iter().filter(|(_, is_quoted)| !is_quoted);
        let lists = lists.filter_map(|(token, _)| token.strip_prefix('@')).filter(|path| !path.is_empty());
        named.extend(lists.map(|path| Named { path: path.to_owned(), is_directory: false }));
    }
    named
}

/// The words of a line, each with whether it began with a quote (PostgreSQL: `next_token`).
fn tokens(line: &str) -> Vec<(String, bool)> {
    let mut tokens = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        while letters.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        match letters.peek() {
            None | Some('#') => return tokens,
            Some(first) => {
                let (mut token, is_quoted, mut within) = (String::new(), *first == '"', false);
                while let Some(letter) = letters.next_if(|c| within || !(c.is_whitespace() || *c == ',' || *c == '#')) {
                    match letter {
                        '"' if within && letters.next_if_eq(&'"').is_some() => token.push('"'),
                        '"' => within = !within,
                        letter => token.push(letter),
                    }
                }
                tokens.push((token, is_quoted));
            }
        }
    }
}

/// A path as the server takes it: from the directory of the file that names it, without `.` and `..` (PostgreSQL: `canonicalize_path`). `None`
/// for one that names nothing.
pub(super) fn absolute(from: &Path, path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in from.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    (!path.is_empty() && clean.is_absolute() && clean.file_name().is_some()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(named: Vec<Named>) -> Vec<String> {
        named.into_iter().map(|name| format!("{}{}", name.path, if name.is_directory { "/" } else { "" })).collect()
    }

    #[test]
    fn what_files_of_settings_include_is_found() {
        let text = b"# include 'no'\nInclude 'a b.conf' # yes\ninclude_if_exists = /x/y.conf\ninclude_dir 'conf.d'\nport = 1\n\xff";
        assert_eq!(of(setting_names(text)), ["a b.conf", "/x/y.conf", "conf.d/"]);
    }

    #[test]
    fn what_pg_hba_includes_is_found() {
        let text = b"local all,@dbs @\"the users\" peer # @no\nhost \"@db\" all 0/0 md5\ninclude extra.conf\n\
                     include_dir \"hba.d\"\ninclude_if_exists /etc/x\n#include y\nlocal \"a \"\"b\" @ md5\n";
        assert_eq!(of(auth_names(text)), ["dbs", "the users", "extra.conf", "hba.d/", "/etc/x"]);
    }

    #[test]
    fn paths_are_taken_as_the_server_takes_them() {
        let from = Path::new("/etc/pg/main");
        for (path, expected) in [
            ("conf.d/../x.conf", Some("/etc/pg/main/x.conf")),
            ("../../../../x", Some("/x")),
            ("/srv//a/./b", Some("/srv/a/b")),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(absolute(from, path), expected.map(PathBuf::from), "{path}");
        }
    }
}
