//! Samples become hours, and hours days: what is older needs no more than that.

use super::hour;
use crate::{JobContext, JobError};
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::sample::{Frame, SampleRecord, Span, Topic};

/// Topics that are kept by the day.
const DAILY: [Topic; 2] = [Topic::Sizes, Topic::Databases];
/// The most of each topic that one run makes: after a long time without, the next go on.
const MOST: usize = 48;

/// The hours and days that are over and were not made yet. What was sampled last, `last`, began the sample that is being taken:
/// its hour is not over before that is written down.
pub(super) async fn all(
    context: &JobContext,
    cluster: &str,
    last: DateTime<Utc>,
) -> Result<Vec<SampleRecord>, JobError> {
    let mut made = Vec::new();
    let before = hour(last);
    for topic in DAILY {
        // Nor is a day before all its hours are there.
        let open = context.journal.unrolled(cluster, topic, (Span::Sample, Span::Hour), before).await?;
        let whole = open.first().and_then(|name| begin(name, Span::Hour)).unwrap_or(before);
        let midnight = whole.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        made.extend(roll(context, cluster, topic, (Span::Hour, Span::Day), midnight).await?);
    }
    for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::Sizes) {
        made.extend(roll(context, cluster, topic, (Span::Sample, Span::Hour), before).await?);
    }
    Ok(made)
}

/// When a span begins, by the beginning of its text.
fn begin(name: &str, span: Span) -> Option<DateTime<Utc>> {
    let rest = if span == Span::Hour { ":00:00Z" } else { "T00:00:00Z" };
    format!("{name}{rest}").parse().ok()
}

async fn roll(
    context: &JobContext,
    cluster: &str,
    topic: Topic,
    (from, to): (Span, Span),
    before: DateTime<Utc>,
) -> Result<Vec<SampleRecord>, JobError> {
    let length = if to == Span::Hour { TimeDelta::hours(1) } else { TimeDelta::days(1) };
    let mut made = Vec::new();
    for name in context.journal.unrolled(cluster, topic, (from, to), before).await?.into_iter().take(MOST) {
        let Some(begin) = begin(&name, to) else { continue };
        let parts = context.journal.samples(cluster, topic, from, (begin, begin + length)).await?;
        let (mut frame, mut seconds) = (Frame::new(), 0.0);
        for part in &parts {
            frame.merge(topic, &part.frame);
            seconds += part.seconds;
        }
        frame.trim(topic);
        made.push(SampleRecord { at: begin, seconds, span: to, topic, frame });
    }
    Ok(made)
}
