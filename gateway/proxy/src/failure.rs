//! What a browser is told when its app could not be reached: what to do, and nothing about what exists.

use pingora::{Error, ErrorSource, ErrorType};

use crate::{
    pages,
    respond::Answer,
    upstream::{FORBIDDEN, LATER, NO_TUNNEL, REFUSED},
};

/// Seconds after which a connector that was lost is usually back, and one that was full has room.
const SOON: u32 = 5;
/// Seconds for an app that does not answer.
const LATE: u32 = 30;

struct Failure {
    status: u16,
    title: &'static str,
    text: &'static str,
    /// Seconds; `None` when trying again does not help by itself.
    again: Option<u32>,
}

/// Its status and the page.
pub(crate) fn answer(error: &Error) -> (u16, Answer) {
    let Failure { status, title, text, again } = failure(error);
    let page = pages::message(status, title, text);
    let page = match again {
        Some(seconds) => page.with("Retry-After", seconds.to_string()),
        None => page,
    };
    (status, page)
}

fn failure(error: &Error) -> Failure {
    match error.root_etype() {
        kind if *kind == NO_TUNNEL => Failure {
            status: 503,
            title: "Not connected",
            text: "The place where this app runs is not connected at this moment. Try again in a minute.",
            again: Some(SOON),
        },
        kind if *kind == LATER => Failure {
            status: 503,
            title: "Not now",
            text: "This app cannot be reached at this moment. Try again in a few seconds.",
            again: Some(SOON),
        },
        kind if *kind == REFUSED || *kind == FORBIDDEN => Failure {
            status: 502,
            title: "Not reachable",
            text: "This app may not be reached as it is set up now; tell your administrator.",
            again: None,
        },
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout => Failure {
            status: 504,
            title: "No answer",
            text: "The app did not answer in time. Try again in a minute.",
            again: Some(LATE),
        },
        _ if matches!(error.esource(), ErrorSource::Downstream) => {
            Failure { status: 400, title: "Not understood", text: "The request could not be read.", again: None }
        }
        _ => Failure {
            status: 502,
            title: "Not reachable",
            text: "The app could not be reached. Try again in a minute.",
            again: Some(LATE),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn what_time_heals_says_when_to_come_back() {
        let told = |kind: ErrorType| {
            let failure = failure(&Error::explain(kind, "a secret reason"));
            (failure.status, failure.again.is_some())
        };
        assert_eq!(told(NO_TUNNEL), (503, true));
        assert_eq!(told(LATER), (503, true));
        assert_eq!(told(ErrorType::ConnectTimedout), (504, true));
        assert_eq!(told(REFUSED), (502, false));
        assert_eq!(told(FORBIDDEN), (502, false));
        assert_eq!(told(ErrorType::ConnectError), (502, true));
    }
}
