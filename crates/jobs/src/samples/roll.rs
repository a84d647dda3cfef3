//! Samples become hours, and hours days: what is older needs no more than that.

use super::hour;
use crate::{JobContext, JobError};
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::sample::{Frame, SampleRecord, Span, Topic};

/// Topics that are kept by the day.
const DAILY: [Topic; 2] = [Topic::Sizes, Topic::Databases];
/// The most of each topic that one run makes: after a long time without, the next go on.
const MOST: usize = 48;

/// The hours and days that are over and were not made yet.
pub(super) async fn all(
    context: &JobContext,
    cluster: &str,
    now: DateTime<Utc>,
) -> Result<Vec<SampleRecord>, JobError> {
    let mut made = Vec::new();
    // A sample that began in an hour ends in the next one.
    let before = hour(now - TimeDelta::minutes(10));
    for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::Sizes) {
        made.extend(roll(context, cluster, topic, (Span::Sample, Span::Hour), before).await?);
    }
    let midnight = before.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    for topic in DAILY {
        made.extend(roll(context, cluster, topic, (Span::Hour, Span::Day), midnight).await?);
    }
    Ok(made)
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
        let rest = if to == Span::Hour { ":00:00Z" } else { "T00:00:00Z" };
        let Ok(begin) = format!("{name}{rest}").parse::<DateTime<Utc>>() else { continue };
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
