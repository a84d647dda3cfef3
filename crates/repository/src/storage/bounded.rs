//! Answers of a store, or of whoever answers in its place, end somewhere: opendal keeps the whole of an answer that it has to understand.
//!
//! Invariant: no answer is longer than [`ANSWER`], or than the range that was asked for where that is longer. What is asked for up to its
//! end, whatever that is, is read as a stream by those who know how much there may be.

use futures::{StreamExt, future};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result};
use opendal_http_transport_reqwest::ReqwestTransport;

/// The longest answer that is read whole: a page of a listing has a thousand names of a thousand bytes and what goes with them.
const ANSWER: u64 = 16 << 20;

/// HTTP with answers that end.
pub(super) struct Bounded(pub ReqwestTransport);

impl HttpTransport for Bounded {
    async fn fetch(&self, request: http::Request<Buffer>) -> Result<http::Response<HttpBody>> {
        let range = request.headers().get(http::header::RANGE).and_then(|range| range.to_str().ok());
        let most = match range.map(length) {
            Some(None) => return self.0.fetch(request).await,
            Some(Some(length)) => length.max(ANSWER),
            None => ANSWER,
        };
        let answer = self.0.fetch(request).await?;
        Ok(answer.map(|body| {
            body.map_inner(|stream| {
                let mut left = most;
                let bounded = stream.map(move |piece| {
                    let piece = piece?;
                    left = left.checked_sub(piece.len() as u64).ok_or_else(|| endless(most))?;
                    Ok(piece)
                });
                // After its error nothing more is asked for.
                let mut failed = false;
                Box::new(
                    bounded.take_while(move |piece| future::ready(!std::mem::replace(&mut failed, piece.is_err()))),
                )
            })
        }))
    }
}

/// How much a range asks for; none where it has no end.
fn length(range: &str) -> Option<u64> {
    let (begin, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (begin, end): (u64, u64) = (begin.parse().ok()?, end.parse().ok()?);
    Some(end.saturating_sub(begin).saturating_add(1))
}

/// Nothing that passes: another try would be answered in the same way.
fn endless(most: u64) -> Error {
    Error::new(ErrorKind::Unexpected, format!("the answer is longer than {most} bytes: it cannot be from the store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_a_length_where_they_have_an_end() {
        assert_eq!(length("bytes=0-8388607"), Some(8 << 20));
        assert_eq!(length("bytes=7-7"), Some(1));
        for open in ["bytes=5-", "bytes=-5", "", "bytes=a-b"] {
            assert_eq!(length(open), None, "{open}");
        }
    }
}
