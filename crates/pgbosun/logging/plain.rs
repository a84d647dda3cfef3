//! Log events with nothing in them that a terminal obeys (C44): names of users and databases and messages of servers get into them.
//! journalctl shows nothing at all of a message with such characters, and a line end would begin a line of a stranger's own.
//! For journald each message of a run also begins with the name of its job: journalctl does not show the field that has it.

use std::fmt;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit, display},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Hands events on to another layer, as plain text.
pub struct Plain<L> {
    /// The other layer.
    pub layer: L,
    /// Begin the message of an event in the span of a run with the name of its job.
    pub names_jobs: bool,
}

/// The job of a span.
#[derive(Default)]
struct Job(String);

impl Visit for Job {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "pgbosun_job" {
            value.clone_into(&mut self.0);
        }
    }
}

/// The fields of an event as text, and whether any of them is another one than it was.
#[derive(Default)]
struct Fields {
    texts: Vec<(Field, String)>,
    changed: bool,
}

impl Fields {
    fn name(&mut self, job: &str) {
        let message = self.texts.iter_mut().find(|(field, _)| field.name() == "message");
        let names = |text: &str| text.strip_prefix(job).is_some_and(|rest| rest.starts_with([':', ' ']));
        if let Some((_, text)) = message.filter(|(_, text)| !names(text)) {
            *text = format!("{job}: {text}");
            self.changed = true;
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = pgbosun_core::human::plain(value).replace('\n', "\n    ");
        self.changed |= plain != value;
        self.texts.push((field.clone(), plain));
    }
}

impl<S, L> Layer<S> for Plain<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        self.layer.on_layer(subscriber);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id).filter(|_| self.names_jobs) {
            let mut job = Job::default();
            attributes.record(&mut job);
            if !job.0.is_empty() {
                span.extensions_mut().replace(job);
            }
        }
        self.layer.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.layer.on_record(span, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        /// tracing takes values of events by arrays of this length at most.
        const MOST: usize = 32;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut spans = context.event_scope(event).into_iter().flatten();
        let _ = spans.find_map(|span| span.extensions().get::<Job>().map(|job| fields.name(&job.0)));
        if !fields.changed || fields.texts.is_empty() || fields.texts.len() > MOST {
            return self.layer.on_event(event, context);
        }
        let texts: Vec<_> = fields.texts.iter().map(|(field, text)| (field, display(text))).collect();
        // Shorter ones are filled up with a field that has no value.
        let nothing = (texts[0].0, None);
        let mut values: [(&Field, Option<&dyn tracing::field::Value>); MOST] = [nothing; MOST];
        for (value, (field, text)) in values.iter_mut().zip(&texts) {
            *value = (*field, Some(text));
        }
        let values = event.metadata().fields().value_set(&values);
        self.layer.on_event(&Event::new(event.metadata(), &values), context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    struct Heard(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Heard {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let message = fields.texts.into_iter().find(|(field, _)| field.name() == "message");
            self.0.lock().unwrap().extend(message.map(|(_, text)| text));
        }
    }

    #[test]
    fn c44_a_message_is_plain_and_says_whose_it_is() {
        let heard = |names_jobs| {
            let lines = Arc::new(Mutex::new(Vec::new()));
            let layer = Plain { layer: Heard(lines.clone()), names_jobs };
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::info!("stopped");
                let _run = tracing::info_span!("run", pgbosun_job = "backup", pgbosun_run = 1).entered();
                let _within = tracing::info_span!("within").entered();
                tracing::info!("run started");
                tracing::info!("backup: done");
                tracing::info!("backups removed");
                tracing::info!("user {}", "\u{1b}[2Jx");
            });
            Arc::try_unwrap(lines).unwrap().into_inner().unwrap()
        };
        let plain = pgbosun_core::human::plain("user \u{1b}[2Jx").into_owned();
        assert_eq!(
            heard(true),
            ["stopped", "backup: run started", "backup: done", "backup: backups removed", &format!("backup: {plain}")]
        );
        assert_eq!(heard(false), ["stopped", "run started", "backup: done", "backups removed", &plain]);
    }
}
