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
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::page::page;
use super::query::{
    AskError, QUERY_TIMEOUT, Query, ask, parse_connections, parse_explain, parse_names,
    parse_status,
};
use super::server::{Answer, LIMITS, is_named_plainly, is_of_this_node, serve};
use super::shared::{AnswerPlace, AnswerPlaces, SharedAnswer};
use super::zpages;
use crate::agent::api::{
    ConnectionsQuestion, ExplainView, KernelReaders, NameView, StatusFilter, StatusQuestion,
    StatusView, TrafficOrder,
};
use crate::agent::health::{Health, HealthReport};
use crate::agent::metrics::{Metrics, NodeReadings, encode_node, encode_traffic};

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sources of the answers at the metrics address.
pub struct MetricsRoutes {
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
    pub ask: Box<dyn Fn(Query) + Send + Sync>,
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
pub async fn serve_metrics(
    listener: TcpListener,
    routes: MetricsRoutes,
    stop: impl Future<Output = ()>,
) {
    let served = Arc::new(ServedRoutes {
        routes,
        status: Default::default(),
        scrapes: Default::default(),
        explanations: Default::default(),
    });
    let handle = move |request| answer(Arc::clone(&served), request);
    serve(listener, Arc::default(), LIMITS, handle, stop).await;
}

/// The routes, and what the answers to all clients share.
struct ServedRoutes {
    routes: MetricsRoutes,
    status: SharedAnswer,
    /// Bounds the readings for `/metrics` apart from the others, which may take long.
    scrapes: AnswerPlaces,
    explanations: AnswerPlaces,
}

async fn answer(served: Arc<ServedRoutes>, request: Request<Incoming>) -> Answer {
    let routes = &served.routes;
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
        "/metrics" => metrics(served.metrics().await),
        "/proxyMode" => say(StatusCode::OK, "ipvs"),
        "/configz" => json(StatusCode::OK, &routes.config),
        "/" => page(),
        "/status" => answered(served.status(query).await),
        "/connections" if !is_of_this_node(&request) => say(
            StatusCode::FORBIDDEN,
            "the addresses of clients are for this node alone: use `kubectl ipvs connections`",
        ),
        "/connections" if !is_named_plainly(&request) => say(
            StatusCode::MISDIRECTED_REQUEST,
            "ask at an IP address or at localhost: another name may be that of a foreign web page",
        ),
        "/connections" => answered(served.connections(query).await),
        "/explain" => answered(served.explain(query).await),
        "/names" => answered(served.names(query).await),
        path => probe(path, &routes.health, &routes.metrics).unwrap_or_else(not_found),
    }
}

/// The answers, in JSON except for the metrics.
impl ServedRoutes {
    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, AskError> {
        ask(&self.routes.ask, query, QUERY_TIMEOUT).await
    }

    async fn status(&self, query: &str) -> Result<Bytes, AskError> {
        let question = parse_status(query).map_err(AskError::Invalid)?;
        let StatusQuestion { filter, counters, busiest } = question;
        if filter.is_all() && !counters {
            return self.status.get(|place| self.write_status(place, filter, None, false)).await;
        }
        let place = self.status.places.take().await?;
        // Without a limit, all are listed. What cannot be read is told with the counters.
        let busiest = match busiest.filter(|_| filter.limit.is_some()) {
            None | Some(TrafficOrder::Active) => None,
            Some(order) => {
                let busiest = self.routes.kernel.busiest;
                Some(place.read(move || busiest(order).unwrap_or_default()).await?)
            }
        };
        self.write_status(place, filter, busiest, counters).await
    }

    async fn write_status(
        &self,
        place: AnswerPlace,
        filter: StatusFilter,
        busiest: Option<Vec<VirtualAddress>>,
        counters: bool,
    ) -> Result<Bytes, AskError> {
        let snapshot = self.ask(|reply| Query::Status { filter, busiest, reply }).await?;
        let count = counters.then_some(self.routes.kernel.count);
        let render = move || {
            let mut view = StatusView::from(snapshot);
            if let Some(Err(error)) = count.map(|count| count(&mut view)) {
                view.uncounted = Some(format!("cannot read the counters of IPVS: {error}"));
            }
            serde_json::to_vec(&view)
        };
        place.render(render).await
    }

    async fn connections(&self, query: &str) -> Result<Bytes, AskError> {
        let question = parse_connections(query).map_err(AskError::Invalid)?;
        let ConnectionsQuestion { namespace, name, limit } = question;
        let place = self.status.places.take().await?;
        let filter = StatusFilter::of(&namespace, Some(&name));
        let snapshot = self.ask(|reply| Query::Status { filter, busiest: None, reply }).await?;
        let connections = self.routes.kernel.connections;
        let read = move || {
            let view = StatusView::from(snapshot);
            let view = view.services.first().map(|service| connections(service, limit));
            view.map(|view| view.map(|view| (view.clients(), view)))
        };
        let read = place.read(read).await?.ok_or_else(|| {
            AskError::Unknown(format!(
                "no Service {namespace}/{name} is served here; -n names the namespace of a Service \
                 without one"
            ))
        })?;
        let (addresses, mut view) = read.map_err(|it| AskError::Unreadable(it.to_string()))?;
        let names = self.ask(|reply| Query::Names { addresses, reply }).await?;
        let render = move || {
            view.name_clients(&names);
            serde_json::to_vec(&view)
        };
        place.render(render).await
    }

    async fn explain(&self, query: &str) -> Result<Bytes, AskError> {
        let question = parse_explain(query).map_err(AskError::Invalid)?;
        let place = self.explanations.take().await?;
        let is_one = question.is_one();
        let all = self.ask(|reply| Query::Explain { question, reply }).await?;
        let all = all.map_err(AskError::Unknown)?;
        let render = move || {
            let all: Vec<_> = all.iter().map(ExplainView::from).collect();
            // Of two addresses there is one explanation, as an object.
            match &all[..] {
                [view] if is_one => serde_json::to_vec(view),
                all => serde_json::to_vec(all),
            }
        };
        place.render(render).await
    }

    async fn names(&self, query: &str) -> Result<Bytes, AskError> {
        let addresses = parse_names(query).map_err(AskError::Invalid)?;
        let names = self.ask(|reply| Query::Names { addresses, reply }).await?;
        let names = names.into_iter().map(|(ip, name)| (ip, NameView::from(name)));
        let body = serde_json::to_vec(&names.collect::<BTreeMap<_, _>>());
        body.map(Bytes::from).map_err(|error| AskError::Unwritable(error.to_string()))
    }

    async fn metrics(&self) -> prometheus::Result<String> {
        let mut text = self.routes.metrics.encode()?;
        // The kernel may have others to serve first, and probes are answered meanwhile.
        if let Ok(place) = self.scrapes.take().await
            && let Ok(readings) = place.read(NodeReadings::read).await
        {
            text.push_str(&encode_node(&readings)?);
        }
        if let Some(filter) = self.routes.traffic.clone() {
            // The other metrics are useful even while the engine's thread is busy.
            if let Ok(traffic) = self.ask(|reply| Query::Traffic { filter, reply }).await {
                text.push_str(&encode_traffic(&traffic)?);
            }
        }
        Ok(text)
    }
}

fn metrics(encoded: prometheus::Result<String>) -> Answer {
    match encoded {
        Ok(text) => respond(StatusCode::OK, METRICS, text),
        Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn answered(body: Result<Bytes, AskError>) -> Answer {
    let error = match body {
        Ok(body) => return respond(StatusCode::OK, JSON, body),
        Err(error) => error,
    };
    let status = match error {
        AskError::Invalid(_) => StatusCode::BAD_REQUEST,
        AskError::Unknown(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    say(status, error.to_string())
}

fn probe(path: &str, health: &Health, metrics: &Metrics) -> Option<Answer> {
    let (now, time) = (Instant::now(), SystemTime::now());
    let reported = |report: &HealthReport| json(status(report.is_success()), report);
    match path {
        "/healthz" => {
            let report = health.healthz(now, time);
            metrics.probed("healthz", report.is_success());
            Some(reported(&report))
        }
        "/livez" => {
            let report = health.livez(now, time);
            metrics.probed("livez", report.is_success());
            Some(reported(&report))
        }
        "/readyz" => {
            let synced = health.is_synced();
            metrics.probed("readyz", synced);
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
