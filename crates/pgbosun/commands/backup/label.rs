//! Backups by the beginning of their label, as people call them.

use crate::{exit::Exit, output::yellow};
use futures::future::join_all;
use pgbosun_core::human;
use pgbosun_repository::Repository;
use std::collections::BTreeSet;

/// How many labels an error names.
const NAMED: usize = 10;

/// The whole label that begins like this in these repositories. What no label begins with is left as it is, for whoever looks it up
/// to say so, and so is a repository that cannot be asked.
///
/// # Errors
/// Where several begin like this.
pub async fn label(repositories: &[Repository], beginning: &str) -> anyhow::Result<String> {
    let asked = join_all(repositories.iter().map(|repository| repository.labels(beginning))).await;
    for error in asked.iter().filter_map(|answer| answer.as_ref().err()) {
        tell!("{} a repository could not be searched for labels: {}", yellow("note:"), human::chain(error));
    }
    let labels: BTreeSet<String> = asked.into_iter().flatten().flatten().collect();
    chosen(beginning, labels.iter().map(String::as_str).collect())
}

fn chosen(beginning: &str, labels: Vec<&str>) -> anyhow::Result<String> {
    match labels.as_slice() {
        _ if beginning.is_empty() => Err(Exit::usage("which backup? \"pgbosun backup list\" lists them")),
        labels if labels.contains(&beginning) => Ok(beginning.to_owned()),
        [] => Ok(beginning.to_owned()),
        [only] => Ok((*only).to_owned()),
        many => {
            let more = match many.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = many[..many.len().min(NAMED)].join(", ");
            Err(Exit::usage(format!("several labels begin with {beginning}: {named}{more}; type more of the label")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_is_meant_or_all_are_named() {
        let labels = || vec!["20261121T083000Z", "20261121T083000Z-1", "20261122T083000Z"];
        assert_eq!(chosen("20261122", labels()[2..].to_vec()).unwrap(), "20261122T083000Z");
        assert_eq!(chosen("20261121T083000Z", labels()[..2].to_vec()).unwrap(), "20261121T083000Z");
        assert_eq!(chosen("2027", Vec::new()).unwrap(), "2027");
        let error = chosen("202611", labels()).unwrap_err().to_string();
        assert!(labels().iter().all(|label| error.contains(label)), "{error}");
        assert!(chosen("", labels()).is_err());
    }
}
