//! What logrotate manages: the patterns of its configuration, and the names it gives to what it has rotated.

use glob::{MatchOptions, Pattern};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The patterns of files that logrotate manages.
#[derive(Debug, Default)]
pub(super) struct Managed(Vec<Pattern>);

impl Managed {
    /// As this machine's logrotate is configured.
    pub fn read() -> Self {
        let included = fs::read_dir("/etc/logrotate.d").into_iter().flatten().flatten().map(|entry| entry.path());
        let files = std::iter::once(PathBuf::from("/etc/logrotate.conf")).chain(included);
        Self(files.filter_map(|file| fs::read_to_string(file).ok()).flat_map(|text| patterns(&text)).collect())
    }

    /// Whether a file is one of those, or what became of one: `x.log.1`, `x.log-20261122`, `x.log.2.gz`.
    pub fn manages(&self, path: &Path) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
        let Some(text) = path.to_str() else { return false };
        let original = original(text);
        [text, original].iter().any(|name| self.0.iter().any(|pattern| pattern.matches_with(name, options)))
    }
}

/// The name a log had before logrotate gave it a number or a date, and compressed it.
fn original(name: &str) -> &str {
    let plain = ["gz", "zst", "xz", "bz2", "Z"].iter().find_map(|end| name.strip_suffix(end)?.strip_suffix('.'));
    let plain = plain.unwrap_or(name);
    let stem = plain.trim_end_matches(|character: char| character.is_ascii_digit());
    if stem.len() < plain.len() { stem.strip_suffix(['.', '-']).unwrap_or(plain) } else { plain }
}

/// The patterns before each `{`: absolute, with quotes where they need some.
fn patterns(text: &str) -> Vec<Pattern> {
    let (mut found, mut waiting, mut inside) = (Vec::new(), Vec::new(), false);
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if inside {
            inside = !line.starts_with('}');
            continue;
        }
        let (before, opens) = line.split_once('{').map_or((line, false), |(before, _)| (before, true));
        let words = before.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
        waiting.extend(words.filter(|word| word.starts_with('/')).filter_map(|word| Pattern::new(word).ok()));
        if opens {
            found.append(&mut waiting);
            inside = !line.contains('}');
        } else if !before.trim_start().starts_with(['/', '"', '\'']) {
            // A directive, such as "include /etc/logrotate.d".
            waiting.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_own_file_and_the_names_it_makes() {
        let text = "weekly\ninclude /etc/logrotate.d\n/var/log/postgresql/*.log {\n  weekly\n  rotate 10\n  su root root\n}\n\
                    \"/srv/a.log\"\n/srv/b.log\n{\n missingok\n}\n# /srv/c.log {\n";
        let managed = Managed(patterns(text));
        for name in [
            "/var/log/postgresql/postgresql-15-main.log",
            "/var/log/postgresql/postgresql-15-main.log.1",
            "/var/log/postgresql/postgresql-15-main.log.12.gz",
            "/var/log/postgresql/postgresql-15-main.log-20261122.zst",
            "/srv/a.log",
            "/srv/b.log",
        ] {
            assert!(managed.manages(Path::new(name)), "{name}");
        }
        for name in ["/var/log/postgresql/old/x.log", "/var/log/postgresql/x.csv", "/srv/c.log", "/etc/logrotate.d"] {
            assert!(!managed.manages(Path::new(name)), "{name}");
        }
    }
}
