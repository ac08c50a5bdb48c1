//! The routes of the HTTP servers.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use kube_ipvs_core::model::VirtualAddress;
use kube_ipvs_core::question::ConnectionQuestion;
use netlink_ipvs::KernelError;
use serde::Serialize;
use tokio::net::TcpListener;

use super::page::page;
use super::query::{
    AskError, QUERY_TIMEOUT, Query, ask, parse_connections, parse_explain, parse_names,
    parse_status,
};
use super::server::{Answer, LIMITS, is_named_plainly, is_of_this_node, serve};
use super::shared::{AnswerPlace, SharedAnswer, rendered};
use super::zpages;
use crate::agent::api::{
    ConnectionsQuestion, ExplainView, Explained, KernelReaders, NameView, StatusFilter,
    StatusQuestion, StatusView, TrafficOrder,
};
use crate::agent::health::{Health, HealthReport};
use crate::agent::metrics::{Metrics, NodeReadings, encode_node, encode_traffic};

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sources of the answers at the metrics address.
pub struct MetricsRoutes<A> {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// The Services with traffic in `/metrics`; `None` for none.
    pub traffic: Option<StatusFilter>,
    /// The answer to `/configz`, without secrets.
    pub config: serde_json::Value,
    /// The answer to `/flagz`.
    pub flags: BTreeMap<String, String>,
    pub started: SystemTime,
    pub kernel: KernelReaders,
    /// Sends a query to the engine's thread without blocking. A dropped query is answered with 503.
    pub ask: A,
}

/// Answers the probes `/healthz`, `/livez` and `/readyz` until `stop` is ready.
pub async fn serve_health(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let handle = move |request: Request<Incoming>| {
        let answer = refuse_method(request.method())
            .or_else(|| probe(request.uri().path(), &health, &metrics))
            .unwrap_or_else(not_found);
        ready(answer)
    };
    serve(listener, Arc::default(), LIMITS, handle, stop).await;
}

/// Answers the page, the probes, `/metrics`, `/metrics/slis`, `/proxyMode`, `/configz`, `/flagz`, `/statusz`,
/// `/status`, `/connections`, `/names` and `/explain` until `stop` is ready.
pub async fn serve_metrics<A>(
    listener: TcpListener,
    routes: MetricsRoutes<A>,
    stop: impl Future<Output = ()>,
) where
    A: Fn(Query) + Send + Sync + 'static,
{
    let shared = Arc::new(ServedRoutes {
        routes,
        status: Default::default(),
        scrapes: Default::default(),
        explanations: Default::default(),
    });
    let handle = move |request| answer(Arc::clone(&shared), request);
    serve(listener, Arc::default(), LIMITS, handle, stop).await;
}

/// What the answers to all clients share.
struct ServedRoutes<A> {
    routes: MetricsRoutes<A>,
    status: SharedAnswer,
    /// Bounds the readings for `/metrics` apart from the others, which may take long.
    scrapes: SharedAnswer,
    explanations: SharedAnswer,
}

async fn answer<A>(shared: Arc<ServedRoutes<A>>, request: Request<Incoming>) -> Answer
where
    A: Fn(Query) + Send + Sync + 'static,
{
    let ServedRoutes { routes, status, scrapes, explanations } = &*shared;
    if let Some(refusal) = refuse_method(request.method()) {
        return refusal;
    }
    let query = request.uri().query().unwrap_or_default();
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let accept = accept.unwrap_or_default();
    match request.uri().path() {
        "/statusz" => zpages::statusz(accept, routes.started, SystemTime::now()),
        "/flagz" => zpages::flagz(accept, &routes.flags),
        "/metrics/slis" => metrics(routes.metrics.slis.encode()),
        "/metrics" => metrics(encode_metrics(routes, scrapes).await),
        "/proxyMode" => say(StatusCode::OK, "ipvs"),
        "/configz" => json(StatusCode::OK, &routes.config),
        "/" => page(),
        "/status" => answer_status(routes, status, query).await,
        "/connections" if !is_of_this_node(&request) => say(
            StatusCode::FORBIDDEN,
            "the addresses of clients are for this node alone: use `kubectl ipvs connections`",
        ),
        "/connections" if !is_named_plainly(&request) => say(
            StatusCode::MISDIRECTED_REQUEST,
            "ask at an IP address or at localhost: another name may be that of a foreign web page",
        ),
        "/connections" => answer_connections(routes, status, query).await,
        "/explain" => explain(&routes.ask, explanations, query).await,
        "/names" => names(&routes.ask, query).await,
        path => probe(path, &routes.health, &routes.metrics).unwrap_or_else(not_found),
    }
}

async fn answer_status<A>(routes: &MetricsRoutes<A>, shared: &SharedAnswer, query: &str) -> Answer
where
    A: Fn(Query) + Send + Sync + 'static,
{
    let question = match parse_status(query) {
        Ok(question) => question,
        Err(error) => return say(StatusCode::BAD_REQUEST, error),
    };
    match write_status(routes, shared, question).await {
        Ok(body) => respond(StatusCode::OK, JSON, body),
        Err(error) => unavailable(error),
    }
}

async fn write_status<A>(
    routes: &MetricsRoutes<A>,
    shared: &SharedAnswer,
    StatusQuestion { filter, counters, busiest }: StatusQuestion,
) -> Result<Bytes, AskError>
where
    A: Fn(Query) + Send + Sync + 'static,
{
    let count = counters.then_some(routes.kernel.count);
    let render = move |snapshot| {
        let mut view = StatusView::from(snapshot);
        if let Some(Err(error)) = count.map(|count| count(&mut view)) {
            view.uncounted = Some(format!("cannot read the counters of IPVS: {error}"));
        }
        serde_json::to_vec(&view)
    };
    let snapshot = |filter, busiest| {
        let query = |reply| Query::Status { filter, busiest, reply };
        ask(&routes.ask, query, QUERY_TIMEOUT)
    };
    if filter.is_all() && count.is_none() {
        return shared.get(snapshot(filter, None), render).await;
    }
    let place = shared.place().await?;
    // Without a limit, all are listed.
    let busiest = match busiest.filter(|_| filter.limit.is_some()) {
        None | Some(TrafficOrder::Active) => None,
        Some(order) => Some(find_busiest(routes, &place, order).await?),
    };
    rendered(place, snapshot(filter, busiest), render).await
}

/// Returns the virtual servers with traffic. What cannot be read is told with the counters.
async fn find_busiest<A>(
    routes: &MetricsRoutes<A>,
    place: &AnswerPlace,
    order: TrafficOrder,
) -> Result<Vec<VirtualAddress>, AskError> {
    let busiest = routes.kernel.busiest;
    place.read(move || busiest(order).unwrap_or_default()).await
}

async fn answer_connections<A>(
    routes: &MetricsRoutes<A>,
    shared: &SharedAnswer,
    query: &str,
) -> Answer
where
    A: Fn(Query) + Send + Sync + 'static,
{
    let question = match parse_connections(query) {
        Ok(question) => question,
        Err(error) => return say(StatusCode::BAD_REQUEST, error),
    };
    match write_connections(routes, shared, &question).await {
        Ok(Ok(Some(body))) => respond(StatusCode::OK, JSON, body),
        Ok(Err(error)) => say(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Ok(Ok(None)) => {
            let ConnectionsQuestion { namespace, name, .. } = question;
            let text = format!(
                "no Service {namespace}/{name} is served here; -n names the namespace of a Service \
                 without one"
            );
            say(StatusCode::NOT_FOUND, text)
        }
        Err(error) => unavailable(error),
    }
}

/// Returns the connections of a Service; `None` if it is not served.
async fn write_connections<A>(
    routes: &MetricsRoutes<A>,
    shared: &SharedAnswer,
    ConnectionsQuestion { namespace, name, limit }: &ConnectionsQuestion,
) -> Result<Result<Option<Bytes>, KernelError>, AskError>
where
    A: Fn(Query) + Send + Sync + 'static,
{
    let place = shared.place().await?;
    let filter = StatusFilter::of(namespace, Some(name));
    let query = |reply| Query::Status { filter, busiest: None, reply };
    let snapshot = ask(&routes.ask, query, QUERY_TIMEOUT).await?;
    let (connections, limit) = (routes.kernel.connections, *limit);
    let read = move || {
        let view = StatusView::from(snapshot);
        let view = view.services.first().map(|service| connections(service, limit));
        view.transpose().map(|view| view.map(|view| (view.clients(), view)))
    };
    let (addresses, mut view) = match place.read(read).await? {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(error)),
    };
    let names = ask(&routes.ask, |reply| Query::Names { addresses, reply }, QUERY_TIMEOUT);
    let render = move |names| {
        view.name_clients(&names);
        serde_json::to_vec(&view)
    };
    rendered(place, names, render).await.map(|body| Ok(Some(body)))
}

fn metrics(encoded: prometheus::Result<String>) -> Answer {
    match encoded {
        Ok(text) => respond(StatusCode::OK, METRICS, text),
        Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn encode_metrics<A>(
    routes: &MetricsRoutes<A>,
    scrapes: &SharedAnswer,
) -> prometheus::Result<String>
where
    A: Fn(Query) + Send + Sync + 'static,
{
    let mut text = routes.metrics.encode()?;
    // The kernel may have others to serve first, and probes are answered meanwhile.
    if let Ok(place) = scrapes.place().await
        && let Ok(readings) = place.read(NodeReadings::read).await
    {
        text.push_str(&encode_node(&readings)?);
    }
    if let Some(filter) = routes.traffic.clone() {
        let query = |reply| Query::Traffic { filter, reply };
        // The other metrics are useful even while the engine's thread is busy.
        if let Ok(traffic) = ask(&routes.ask, query, QUERY_TIMEOUT).await {
            text.push_str(&encode_traffic(&traffic)?);
        }
    }
    Ok(text)
}

async fn explain(put: impl Fn(Query), shared: &SharedAnswer, query: &str) -> Answer {
    let question = match parse_explain(query) {
        Ok(question) => question,
        Err(error) => return say(StatusCode::BAD_REQUEST, error),
    };
    match write_explanations(put, shared, question).await {
        Ok(Ok(body)) => respond(StatusCode::OK, JSON, body),
        Ok(Err(unknown)) => say(StatusCode::NOT_FOUND, unknown),
        Err(error) => unavailable(error),
    }
}

async fn names(put: impl Fn(Query), query: &str) -> Answer {
    let addresses = match parse_names(query) {
        Ok(addresses) => addresses,
        Err(error) => return say(StatusCode::BAD_REQUEST, error),
    };
    match ask(put, |reply| Query::Names { addresses, reply }, QUERY_TIMEOUT).await {
        Ok(names) => {
            let names = names.into_iter().map(|(ip, name)| (ip, NameView::from(name)));
            json(StatusCode::OK, &names.collect::<BTreeMap<_, _>>())
        }
        Err(error) => unavailable(error),
    }
}

/// Returns the explanations, or what is unknown.
async fn write_explanations(
    put: impl Fn(Query),
    shared: &SharedAnswer,
    question: ConnectionQuestion,
) -> Result<Result<Bytes, String>, AskError> {
    let place = shared.place().await?;
    let is_one = question.is_one();
    let query = |reply| Query::Explain { question, reply };
    let all = match ask(put, query, QUERY_TIMEOUT).await? {
        Ok(all) => all,
        Err(unknown) => return Ok(Err(unknown)),
    };
    let render = move |all: Vec<Explained>| {
        let all: Vec<_> = all.iter().map(ExplainView::from).collect();
        // Of two addresses there is one explanation, as an object.
        match &all[..] {
            [view] if is_one => serde_json::to_vec(view),
            all => serde_json::to_vec(all),
        }
    };
    rendered(place, ready(Ok(all)), render).await.map(Ok)
}

fn probe(path: &str, health: &Health, metrics: &Metrics) -> Option<Answer> {
    let (now, time) = (Instant::now(), SystemTime::now());
    let reported = |report: &HealthReport| json(status(report.is_success()), report);
    match path {
        "/healthz" => {
            let report = health.healthz(now, time);
            metrics.kube_proxy.healthz(report.is_success());
            metrics.slis.probed("healthz", report.is_success());
            Some(reported(&report))
        }
        "/livez" => {
            let report = health.livez(now, time);
            metrics.kube_proxy.livez(report.is_success());
            metrics.slis.probed("livez", report.is_success());
            Some(reported(&report))
        }
        "/readyz" => {
            let synced = health.is_synced();
            metrics.slis.probed("readyz", synced);
            Some(say(status(synced), if synced { "ok" } else { "not synced yet" }))
        }
        _ => None,
    }
}

pub(super) fn status(success: bool) -> StatusCode {
    if success { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn refuse_method(method: &Method) -> Option<Answer> {
    if [Method::GET, Method::HEAD].contains(method) {
        return None;
    }
    let answer = say(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
    Some(with_header(answer, ALLOW, "GET, HEAD"))
}

pub(super) fn not_found() -> Answer {
    say(StatusCode::NOT_FOUND, "no such path")
}

fn unavailable(error: AskError) -> Answer {
    say(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

pub(super) fn say(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    respond(status, TEXT, text)
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => respond(status, JSON, body),
        Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

pub(super) fn respond(status: StatusCode, content: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let answer = with_header(answer, CONTENT_TYPE, content);
    with_header(answer, X_CONTENT_TYPE_OPTIONS, "nosniff")
}

pub(super) fn with_header(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
