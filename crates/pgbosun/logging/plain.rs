//! Log events with nothing in them that a terminal obeys (C44): names of users and databases and messages of servers get into them.
//! journalctl shows nothing at all of a message with such characters, and a line end would begin a line of a stranger's own.

use std::fmt;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit, display},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Hands events on to another layer, as plain text.
pub struct Plain<L>(pub L);

/// The fields of an event as text, and whether any of them is not plain.
#[derive(Default)]
struct Fields {
    texts: Vec<(Field, String)>,
    hostile: bool,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = pgbosun_core::human::plain(value).replace('\n', "\n    ");
        self.hostile |= plain != value;
        self.texts.push((field.clone(), plain));
    }
}

impl<S, L> Layer<S> for Plain<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        self.0.on_layer(subscriber);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(span, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        /// tracing takes values of events by arrays of this length at most.
        const MOST: usize = 32;
        let mut fields = Fields::default();
        event.record(&mut fields);
        if !fields.hostile || fields.texts.is_empty() || fields.texts.len() > MOST {
            return self.0.on_event(event, context);
        }
        let texts: Vec<_> = fields.texts.iter().map(|(field, text)| (field, display(text))).collect();
        // Shorter ones are filled up with a field that has no value.
        let nothing = (texts[0].0, None);
        let mut values: [(&Field, Option<&dyn tracing::field::Value>); MOST] = [nothing; MOST];
        for (value, (field, text)) in values.iter_mut().zip(&texts) {
            *value = (*field, Some(text));
        }
        let values = event.metadata().fields().value_set(&values);
        self.0.on_event(&Event::new(event.metadata(), &values), context);
    }
}
