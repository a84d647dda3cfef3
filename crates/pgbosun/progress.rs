//! How far work is, for who waits for it: on a terminal a line or two that fit its width, elsewhere one line a step.

use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use pgbosun_backup::{Snapshot, Words};
use pgbosun_core::human;
use std::{io::IsTerminal, time::Duration};

/// The step, for a step whose size is not known.
const STEP: &str = "{wide_msg}  {elapsed}";
/// The same, and how far it is. Numbers come last: on a narrow terminal it is the bar that gets short.
const BYTES: &str = "{wide_msg}\n{wide_bar}  {percent:>3} %  {bytes} of {total_bytes}";
/// Where there is room.
const BYTES_AND_RATE: &str =
    "{wide_msg}\n{wide_bar}  {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
/// Columns from which on there is.
const WIDE: usize = 100;

/// Shows the progress of one piece of work on standard error.
pub struct Bar {
    name: String,
    /// On a terminal.
    bar: Option<ProgressBar>,
    step: String,
}

impl Bar {
    /// For the work of this name.
    pub fn new(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            bar.set_style(style(STEP));
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { name: name.to_owned(), bar, step: String::new() }
    }

    /// Shows how far it is.
    pub fn show(&mut self, bytes: Snapshot, words: &Words) {
        let is_new = words.step != self.step;
        self.step.clone_from(&words.step);
        let Some(bar) = &self.bar else {
            // With --quiet nothing.
            if is_new && !words.step.is_empty() && tracing::enabled!(tracing::Level::WARN) {
                tell!("{}", human::line(&self.named(&words.step)));
            }
            return;
        };
        // It has names of strangers in it (C44).
        bar.set_message(human::line(&self.named(&in_words(words))).into_owned());
        let is_new = is_new || bar.length() != Some(bytes.total);
        bar.set_length(bytes.total);
        bar.set_position(bytes.done.min(bytes.total));
        if is_new {
            bar.reset_elapsed();
            bar.reset_eta();
            let wide = output::terminal().is_some_and(|(columns, _)| columns >= WIDE);
            bar.set_style(style(match bytes.total {
                0 => STEP,
                _ if wide => BYTES_AND_RATE,
                _ => BYTES,
            }));
        }
    }

    /// What is said of a step: whose it is, where its words do not say so.
    fn named(&self, step: &str) -> String {
        match step {
            "" => self.name.clone(),
            _ if step.split(' ').any(|word| word == self.name) || step.ends_with(&self.name) => step.to_owned(),
            _ => format!("{}: {step}", self.name),
        }
    }

    /// Takes it away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The step, and where it is in it.
pub fn in_words(words: &Words) -> String {
    match words.detail.as_str() {
        "" => words.step.clone(),
        detail => format!("{}: {detail}", words.step),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
