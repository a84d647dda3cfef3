//! `pgbosun status --watch`: the same screen, drawn again until somebody has seen enough.

use super::{ask, lines, worst};
use crate::{
    commands::backup::stop_signal,
    console,
    exit::{Exit, describe},
    local::Context,
    output::{red, terminal},
};
use pgbosun_core::finding::Severity;
use std::time::Duration;

/// From one drawing to the next.
const PAUSE: Duration = Duration::from_secs(2);

/// Draws the status until it is told to stop; the exit code is that of the worst alert seen last. A daemon that is away for a
/// moment, as in a restart, ends nothing.
///
/// # Errors
/// Where there is no terminal to draw on.
pub async fn watch(context: &Context) -> anyhow::Result<u8> {
    if context.json || terminal().is_none() {
        return Err(Exit::usage("--watch needs a terminal"));
    }
    let mut stop = std::pin::pin!(stop_signal());
    let mut code = Severity::Unknown.exit_code();
    loop {
        let asked = tokio::select! {
            () = &mut stop => return Ok(code),
            asked = ask(context) => asked,
        };
        let drawn = match asked {
            Ok(status) => {
                code = worst(&status).exit_code();
                lines(&status, context)
            }
            Err(error) => vec![format!("{} {}", red("no status:"), describe(&error))],
        };
        if let Some((columns, rows)) = terminal() {
            console::draw(&fitted(drawn, rows).iter().map(|line| console::cut(line, columns)).collect::<Vec<_>>());
        }
        tokio::select! {
            () = &mut stop => return Ok(code),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// As many lines as the terminal has, but for that of the cursor.
fn fitted(mut lines: Vec<String>, rows: usize) -> Vec<String> {
    let room = rows.saturating_sub(1).max(1);
    if lines.len() > room {
        let hidden = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(format!("… {hidden} more lines: pgbosun status"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_higher_than_the_terminal_says_how_much_is_hidden() {
        let lines = |count: usize| vec!["line".to_owned(); count];
        assert_eq!(fitted(lines(23), 24).len(), 23);
        let drawn = fitted(lines(30), 24);
        assert_eq!((drawn.len(), drawn[22].as_str()), (23, "… 8 more lines: pgbosun status"));
    }
}
