//! Queries to the engine's thread.

use std::borrow::Cow;
use std::time::Duration;

use kube_ipvs_core::question::ConnectionQuestion;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::agent::api::{Explained, ServiceTraffic, Snapshot, StatusFilter};

/// How long a query may wait for the engine's thread, which may be busy with the kernel.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// A query to the engine's thread, with the channel for the answer.
#[derive(Debug)]
pub enum Query {
    Status {
        filter: StatusFilter,
        reply: oneshot::Sender<Snapshot>,
    },
    /// The traffic of Services.
    Traffic {
        services: usize,
        reply: oneshot::Sender<ServiceTraffic>,
    },
    /// The target of a new connection; an error if the question names what is unknown.
    Explain {
        question: ConnectionQuestion,
        reply: oneshot::Sender<Result<Vec<Explained>, String>>,
    },
}

impl Query {
    /// Returns whether the client is gone, so that no answer is needed.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Status { reply, .. } => reply.is_closed(),
            Self::Traffic { reply, .. } => reply.is_closed(),
            Self::Explain { reply, .. } => reply.is_closed(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskError {
    #[error("the agent is busy with the kernel; ask again")]
    Busy,
    #[error("the agent is stopping")]
    Stopping,
    /// Earlier answers are still being sent.
    #[error("other clients are still reading their answers; ask again")]
    Crowded,
    #[error("the answer cannot be written: {0}; this is a bug")]
    Unwritable(String),
}

/// Sends a query and waits at most `patience` for the answer.
pub(super) async fn ask<T>(
    put: impl Fn(Query),
    query: impl FnOnce(oneshot::Sender<T>) -> Query,
    patience: Duration,
) -> Result<T, AskError> {
    let (reply, answer) = oneshot::channel();
    put(query(reply));
    match timeout(patience, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(AskError::Stopping),
        Err(_) => Err(AskError::Busy),
    }
}

/// Parses `destination=DEST&from=SRC&namespace=NS` of `/explain`. Public for the fuzz targets.
///
/// # Errors
///
/// The message names the invalid part.
#[doc(hidden)]
pub fn parse_explain(query: &str) -> Result<ConnectionQuestion, String> {
    let (Some(destination), Some(from)) = (find(query, "destination"), find(query, "from")) else {
        return Err("ask for /explain?destination=ADDR:PORT/PROTOCOL&from=ADDR or node".to_owned());
    };
    let destination = destination.parse().map_err(|error| format!("destination: {error}"))?;
    let from = from.parse().map_err(|error| format!("from: {error}"))?;
    let namespace = find(query, "namespace").map_or_else(|| "default".to_owned(), Cow::into_owned);
    Ok(ConnectionQuestion { destination, from, namespace })
}

/// Writes what [`parse_explain`] reads.
#[must_use]
pub fn explain_query(question: &ConnectionQuestion) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("destination", &question.destination.to_string())
        .append_pair("from", &question.from.to_string())
        .append_pair("namespace", &question.namespace)
        .finish()
}

/// Parses `namespace=NS&name=NAME&search=TEXT&state=STATE&limit=N` of `/status`.
///
/// # Errors
///
/// The message names the invalid part.
pub(super) fn parse_status(query: &str) -> Result<StatusFilter, String> {
    let text = |name| find(query, name).map(Cow::into_owned).filter(|text| !text.is_empty());
    let state = text("state").map(|state| state.parse()).transpose();
    let limit = text("limit").map(|limit| limit.parse()).transpose();
    Ok(StatusFilter {
        namespace: text("namespace"),
        name: text("name"),
        search: text("search"),
        state: state.map_err(|error| format!("state: {error}"))?,
        limit: limit.map_err(|error| format!("limit: {error}"))?,
    })
}

/// Returns whether `/status` is asked with `counters=true`.
pub(super) fn asks_for_counters(query: &str) -> bool {
    find(query, "counters").is_some_and(|value| value == "true")
}

fn find<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    parameters.find(|(key, _)| key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_is_asked_plain_or_encoded() {
        for query in [
            "destination=[fd00::a]:53/udp&from=node",
            "from=node&destination=%5Bfd00%3A%3Aa%5D%3A53%2Fudp&more=1",
        ] {
            let ConnectionQuestion { destination, from, namespace } = match parse_explain(query) {
                Ok(parsed) => parsed,
                Err(error) => panic!("{query}: {error}"),
            };
            let asked = [destination.to_string(), from.to_string(), namespace];
            assert_eq!(asked, ["[fd00::a]:53/udp", "node", "default"]);
        }
    }

    #[test]
    fn a_query_without_an_answer_gets_a_reason() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let status = |reply| Query::Status { filter: StatusFilter::default(), reply };
        let asked = |put: &dyn Fn(Query)| {
            let patience = Duration::from_millis(10);
            runtime.as_ref().map(|runtime| runtime.block_on(ask(put, status, patience)).err())
        };
        let unanswered = std::cell::RefCell::new(Vec::new());
        let keep = |query| unanswered.borrow_mut().push(query);
        assert!(matches!(asked(&keep), Ok(Some(AskError::Busy))));
        assert!(matches!(asked(&drop), Ok(Some(AskError::Stopping))));
    }

    #[test]
    fn bad_question_is_named() {
        for (query, part) in [
            ("", "ask for"),
            ("destination=1.2.3.4:5", "ask for"),
            ("destination=1.2.3.4&from=node", "destination:"),
            ("destination=1.2.3.4:5&from=me", "from:"),
        ] {
            assert!(parse_explain(query).is_err_and(|error| error.contains(part)), "{query}");
        }
    }
}
