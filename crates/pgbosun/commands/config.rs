//! `pgbosun config`: write, check, show, explain.

mod init;
mod unit;

pub use init::{init, service};
pub use unit::{lacking, unit};

use crate::{
    console,
    exit::{CONFIGURATION, Exit},
    output,
};
use pgbosun_core::{
    config::{Page, Problem},
    human,
};
use std::path::Path;

/// Reports all mistakes.
///
/// # Errors
/// The mistakes, with the exit code of a wrong configuration.
pub fn check(path: &Path, json: bool) -> anyhow::Result<u8> {
    match pgbosun_daemon::load(path) {
        Ok(loaded) => {
            let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
            let config = &loaded.config;
            let warnings = lacking(config, &loaded.effective);
            if json {
                output::json(&serde_json::json!({
                    "valid": true, "files": files, "clusters": config.clusters.len(),
                    "repositories": config.repositories.len(), "jobs": config.jobs.len(), "warnings": warnings,
                }))?;
                return Ok(0);
            }
            say!(
                "{} {}, {}, {} in {}",
                output::green("configuration is valid:"),
                human::count(config.clusters.len(), "cluster"),
                match config.repositories.len() {
                    1 => "1 repository".to_owned(),
                    count => format!("{count} repositories"),
                },
                human::count(config.jobs.len(), "job"),
                files.join(", ")
            );
            for line in warnings {
                tell!("{} {line}", output::yellow("warning:"));
            }
            Ok(0)
        }
        Err(problems) if json => {
            let problems = problems.0.iter().map(|Problem { source, key, value, message, hint }| {
                serde_json::json!({"source": source, "key": key, "value": value, "message": message, "hint": hint})
            });
            output::json(&serde_json::json!({"valid": false, "problems": problems.collect::<Vec<_>>()}))?;
            Ok(CONFIGURATION)
        }
        Err(problems) => {
            for problem in &problems.0 {
                tell!("{} {problem}", output::red("error:"));
            }
            let count = problems.0.len();
            let message = format!("{count} {} in the configuration", if count == 1 { "mistake" } else { "mistakes" });
            Err(Exit { code: CONFIGURATION, message }.into())
        }
    }
}

/// Prints the effective configuration with the source of every value.
///
/// # Errors
/// The mistakes of a wrong one.
pub fn show(path: &Path, json: bool) -> anyhow::Result<u8> {
    let loaded = crate::load_without_secrets(path)?;
    if json {
        let keys = loaded.effective.iter().map(|key| {
            serde_json::json!({
                "key": format!("{}.{}", key.section, key.key), "value": key.value, "source": key.source
            })
        });
        output::json(&keys.collect::<Vec<_>>())?;
        return Ok(0);
    }
    let mut section = "";
    for key in &loaded.effective {
        if key.section != section {
            section = &key.section;
            say!("{}{}", if section == "daemon" { "" } else { "\n" }, output::bold(&format!("[{section}]")));
        }
        let setting = format!("{} = {}", key.key, key.value);
        say!("{setting:<60} {}", output::dim(&format!("# {}", key.source)));
    }
    Ok(0)
}

/// Prints every option, every monitor, or what samples hold.
///
/// # Errors
/// Never.
pub fn reference(markdown: bool, monitors: bool, samples: bool) -> anyhow::Result<u8> {
    if samples {
        say!("{}\n", include_str!("config/samples.md").trim_end());
        console::exact(&pgbosun_core::sample::reference());
        return Ok(0);
    }
    if monitors {
        console::exact(&pgbosun_jobs::monitors_page());
        return Ok(0);
    }
    let page = if markdown { Page::Markdown } else { Page::Text };
    if markdown {
        say!("{}", include_str!("config/reference.md").trim_end());
        say!("");
    }
    console::exact(&pgbosun_daemon::reference(page));
    Ok(0)
}
