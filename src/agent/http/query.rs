//! Queries to the engine's thread.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use clap::ValueEnum;
use kube_ipvs_core::model::{EndpointName, VirtualAddress};
use kube_ipvs_core::question::ConnectionQuestion;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::agent::api::{
    ConnectionsQuestion, Explained, ServiceTraffic, Snapshot, StatusFilter, StatusQuestion,
    TrafficOrder,
};
use crate::control::label_selector;

/// How long a query may wait for the engine's thread, which may be busy with the kernel.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// A query to the engine's thread, with the channel for the answer.
#[derive(Debug)]
pub enum Query {
    Status {
        filter: StatusFilter,
        /// The virtual servers with traffic, the busiest first, if only the busiest Services are
        /// asked for.
        busiest: Option<Vec<VirtualAddress>>,
        reply: oneshot::Sender<Snapshot>,
    },
    /// The traffic of Services.
    Traffic { filter: StatusFilter, reply: oneshot::Sender<ServiceTraffic> },
    /// The names of the pods at these addresses, and of this node.
    Names { addresses: BTreeSet<IpAddr>, reply: oneshot::Sender<BTreeMap<IpAddr, EndpointName>> },
    /// The target of a new connection; an error if the question names what is unknown.
    Explain { question: ConnectionQuestion, reply: oneshot::Sender<Result<Vec<Explained>, String>> },
}

impl Query {
    /// Returns whether the client is gone, so that no answer is needed.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Status { reply, .. } => reply.is_closed(),
            Self::Traffic { reply, .. } => reply.is_closed(),
            Self::Names { reply, .. } => reply.is_closed(),
            Self::Explain { reply, .. } => reply.is_closed(),
        }
    }
}

/// Why a question has no answer.
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
    /// The question cannot be read.
    #[error("{0}")]
    Invalid(String),
    /// The question names what is not served here.
    #[error("{0}")]
    Unknown(String),
    /// The kernel gives no answer.
    #[error("{0}")]
    Unreadable(String),
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

/// Returns the path of a question to `/explain`, of which [`parse_explain`] reads the query.
#[must_use]
pub fn explain_path(question: &ConnectionQuestion) -> String {
    let ConnectionQuestion { destination, from, namespace } = question;
    let parts = [
        ("destination", destination.to_string()),
        ("from", from.to_string()),
        ("namespace", namespace.clone()),
    ];
    written("/explain", parts)
}

/// Parses `namespace=NS&name=NAME&labels=SELECTOR&search=TEXT&state=STATE&limit=N&counters=true&busiest=ORDER`
/// of `/status`.
pub(super) fn parse_status(query: &str) -> Result<StatusQuestion, String> {
    let filter = StatusFilter {
        namespace: text(query, "namespace"),
        name: text(query, "name"),
        labels: parsed(query, "labels", label_selector)?,
        search: text(query, "search"),
        state: parsed(query, "state", str::parse)?,
        limit: parsed(query, "limit", number)?,
    };
    let counters = text(query, "counters").is_some_and(|value| value == "true");
    let busiest = parsed(query, "busiest", |text| TrafficOrder::from_str(text, true))?;
    Ok(StatusQuestion { filter, counters, busiest })
}

/// Returns the path of a question to `/status`, with the parts that have a flag on the command line.
pub(crate) fn status_path(question: &StatusQuestion) -> String {
    let StatusQuestion { filter, counters, busiest } = question;
    let StatusFilter { namespace, name, labels, limit, .. } = filter;
    let busiest = busiest.as_ref().and_then(ValueEnum::to_possible_value);
    let parts = [
        ("namespace", namespace.clone()),
        ("name", name.clone()),
        ("labels", labels.as_ref().map(ToString::to_string)),
        ("limit", limit.map(|limit| limit.to_string())),
        ("counters", counters.then(|| "true".to_owned())),
        ("busiest", busiest.map(|it| it.get_name().to_owned())),
    ];
    let parts = parts.into_iter().filter_map(|(key, value)| Some((key, value?)));
    written("/status", parts)
}

/// Parses `namespace=NS&name=NAME&limit=N` of `/connections`.
pub(super) fn parse_connections(query: &str) -> Result<ConnectionsQuestion, String> {
    let (Some(namespace), Some(name)) = (text(query, "namespace"), text(query, "name")) else {
        return Err("ask for /connections?namespace=NAMESPACE&name=SERVICE".to_owned());
    };
    let limit = parsed(query, "limit", number)?.unwrap_or(ConnectionsQuestion::MOST);
    if limit > ConnectionsQuestion::MOST {
        return Err(format!("limit: at most {}", ConnectionsQuestion::MOST));
    }
    Ok(ConnectionsQuestion { namespace, name, limit })
}

/// Returns the path of a question to `/connections`.
pub(crate) fn connections_path(question: &ConnectionsQuestion) -> String {
    let ConnectionsQuestion { namespace, name, limit } = question;
    let (namespace, name) = (namespace.clone(), name.clone());
    let parts = [("namespace", namespace), ("name", name), ("limit", limit.to_string())];
    written("/connections", parts)
}

/// Parses `address=IP&address=IP` of `/names`.
pub(super) fn parse_names(query: &str) -> Result<BTreeSet<IpAddr>, String> {
    let parameters = form_urlencoded::parse(query.as_bytes());
    let addresses = parameters.filter(|(key, _)| key == "address");
    let parse = |address: Cow<'_, str>| {
        address.parse().map_err(|_| format!("address: {address:?} is no IP address"))
    };
    addresses.map(|(_, address)| parse(address)).collect()
}

/// Returns the path of a question to `/names`.
pub(crate) fn names_path(addresses: &BTreeSet<IpAddr>) -> String {
    written("/names", addresses.iter().map(|ip| ("address", ip.to_string())))
}

fn written(path: &str, parts: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parts).finish();
    format!("{path}?{query}")
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// Returns a parameter that is not empty.
fn text(query: &str, name: &str) -> Option<String> {
    find(query, name).map(Cow::into_owned).filter(|text| !text.is_empty())
}

fn parsed<T>(
    query: &str,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let value = text(query, name).map(|value| parse(&value)).transpose();
    value.map_err(|error| format!("{name}: {error}"))
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
        let status = |reply| {
            let (filter, busiest) = (StatusFilter::default(), None);
            Query::Status { filter, busiest, reply }
        };
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
