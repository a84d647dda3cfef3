//! The reference of all options, from the same declarations that read them: text for a terminal, Markdown for
//! `docs/configuration.md`.

use super::{
    load::{Registry, variable},
    reader::{OptionDoc, Section},
    sections::{ChannelCommon, Cluster, Daemon, Group, History, JobOptions, Mail, RepositoryOptions, Wal},
    variant::Variant,
};
use std::fmt::Write;

/// How the reference is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// For a terminal.
    Text,
    /// For `docs/configuration.md`.
    Markdown,
}

/// Every section and option, in the order in which a newcomer meets them.
pub fn reference(registry: &Registry<'_>, page: Page) -> String {
    let mut out = String::new();
    let o = &mut out;
    section::<Daemon>(o, page, "daemon");
    section::<History>(o, page, "history");
    section::<Cluster>(o, page, "clusters.NAME");
    section::<RepositoryOptions>(o, page, "repositories.NAME");
    for Variant { name, about, options, .. } in registry.stores {
        write_section(o, page, &format!("repositories.NAME, type = \"{name}\""), about, options);
    }
    section::<Wal>(o, page, "wal");
    section::<Mail>(o, page, "mail");
    section::<ChannelCommon>(o, page, "channels.NAME");
    for Variant { name, about, options, .. } in registry.channels {
        write_section(o, page, &format!("channels.NAME, type = \"{name}\""), about, options);
    }
    section::<Group>(o, page, "groups.NAME");
    section::<JobOptions>(o, page, "jobs.NAME");
    for kind in registry.kinds {
        write_section(o, page, &format!("jobs.NAME, kind = \"{}\"", kind.name), kind.about, kind.options);
    }
    out
}

fn section<T: Section>(out: &mut String, page: Page, path: &str) {
    write_section(out, page, path, T::ABOUT, T::OPTIONS);
}

fn write_section(out: &mut String, page: Page, path: &str, about: &[&str], options: &[OptionDoc]) {
    let about = joined(about);
    // Writing into a String cannot fail.
    let _ = match page {
        Page::Text => writeln!(out, "[{path}]\n{}", wrapped(&about, "  ")),
        Page::Markdown => writeln!(out, "## [{path}]\n\n{about}\n"),
    };
    for option in options {
        let standing = match (option.default.first(), option.optional) {
            (Some(default), _) => format!("default {default}"),
            (None, true) => "optional".to_owned(),
            (None, false) => "required".to_owned(),
        };
        let applies = if option.restart { "; a change needs a restart" } else { "" };
        let (key, expects, doc) = (option.key(), option.expects, joined(option.doc));
        let _ = match page {
            Page::Text => {
                writeln!(
                    out,
                    "  {key}  ({standing}{applies})\n{}",
                    wrapped(&format!("{doc} Takes {expects}."), "      ")
                )
            }
            Page::Markdown => writeln!(out, "- **`{key}`** ({standing}{applies}). {doc} Takes {expects}."),
        };
    }
    let _ = match path {
        "daemon" | "history" | "mail" => {
            let example = options.first().map(|option| variable(&format!("{path}.{}", option.key())));
            let example = example.unwrap_or_default();
            match page {
                Page::Text => writeln!(out, "  Variables: {example} and so on."),
                Page::Markdown => writeln!(out, "\nVariables: `{example}` and so on."),
            }
        }
        _ => Ok(()),
    };
    out.push('\n');
}

fn joined(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_owned()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| line.len() > indent.len() && line.len() + word.len() > 99);
        if full {
            lines.push(indent.to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
