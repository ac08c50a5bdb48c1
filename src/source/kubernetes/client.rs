//! Clients of the API server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::USER_AGENT;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use scopeguard::guard;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tower::service_fn;

use super::connect_error::ConnectError;
use super::kubeconfig;
use super::proxy;

const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// The location of the API server, and the credentials.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ApiAccess {
    /// A kubeconfig; without it, the pod's service account is used.
    pub kubeconfig: Option<PathBuf>,
    /// The server's URL, which replaces the kubeconfig's, or several URLs separated by commas.
    pub master: Option<String>,
}

/// A request to the API server that has an answer, or will have none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiRequest<'a> {
    pub method: &'a Method,
    /// The server's host and port as its URL has them.
    pub host: &'a str,
    /// `None` without an answer.
    pub status: Option<StatusCode>,
    /// Until the head of the answer arrived.
    pub took: Duration,
}

/// Gets each request.
pub type ObserveRequest = Arc<dyn Fn(&ApiRequest<'_>) + Send + Sync>;

/// One client per API server; one server is used as long as it answers.
#[derive(Clone)]
pub struct Clients {
    all: Arc<[Client]>,
    /// Counts the switches to the next server.
    turn: Arc<AtomicUsize>,
}

impl Clients {
    /// Returns the client of the server in use.
    #[must_use]
    pub fn current(&self) -> &Client {
        self.at(self.turn.load(Ordering::Relaxed))
    }

    #[expect(clippy::indexing_slicing, reason = "there is one at least, or no URL was read")]
    fn at(&self, turn: usize) -> &Client {
        &self.all[turn % self.all.len()]
    }

    /// Sends a request to the server in use. If the server does not answer in time or is not ready,
    /// the next request goes to the next server.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<kube::Result<Response<Body>>, Elapsed> {
        let turn = self.turn.load(Ordering::Relaxed);
        let answer = timeout(limit, self.at(turn).send(request)).await;
        let is_ready = |status| status != StatusCode::SERVICE_UNAVAILABLE;
        if !matches!(&answer, Ok(Ok(answer)) if is_ready(answer.status())) {
            // Of several requests that failed with the same server, only one switches.
            let next = turn.wrapping_add(1);
            let _ = self.turn.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        answer
    }
}

/// Returns host and port of a URL, without a user and a password, which it may contain.
fn host(uri: &Uri) -> &str {
    uri.authority().and_then(|it| it.as_str().rsplit('@').next()).unwrap_or_default()
}

/// Returns the URLs of the configured API servers, without any request.
///
/// # Errors
///
/// If the configuration is invalid.
pub async fn server_urls(access: &ApiAccess) -> Result<String, ConnectError> {
    let (_, upstreams) = configure(access).await?;
    let url = |uri: &Uri| format!("{}://{}", uri.scheme_str().unwrap_or("https"), host(uri));
    Ok(upstreams.iter().map(|(server, _)| url(server)).collect::<Vec<_>>().join(","))
}

/// Creates the clients without any request.
///
/// # Errors
///
/// If the configuration is invalid.
pub async fn connect(access: &ApiAccess) -> Result<Clients, ConnectError> {
    connect_observed(access, &(Arc::new(|_: &ApiRequest<'_>| {}) as ObserveRequest)).await
}

/// As [`connect`], with each request observed.
///
/// # Errors
///
/// As [`connect`].
pub async fn connect_observed(
    access: &ApiAccess,
    observe: &ObserveRequest,
) -> Result<Clients, ConnectError> {
    let (config, upstreams) = configure(access).await?;
    let config = prepared(config);
    let client = |(server, proxy): (Uri, Option<Intercept>)| {
        let host = host(&server).to_owned();
        let mut config = config.clone();
        config.cluster_url = server;
        client(config, proxy).map(|client| measured(client, &host, observe))
    };
    let all: Result<_, _> = upstreams.into_iter().map(client).collect();
    Ok(Clients { all: all?, turn: Arc::default() })
}

/// Creates a client with the rights of the user, as kubectl has it: from this kubeconfig, or those that
/// `KUBECONFIG` names, or else `~/.kube/config`, with its current context or another.
///
/// # Errors
///
/// If a kubeconfig is missing or invalid.
pub async fn connect_user(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Client, ConnectError> {
    let path = kubeconfig.unwrap_or_else(|| Path::new("kubeconfig"));
    let file = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let mut file = file.map_err(|source| ConnectError::kubeconfig(path, source))?;
    if let Some(context) = context {
        file.current_context = Some(context.to_owned());
    }
    let (config, proxies) = of_kubeconfig(path, file).await?;
    let proxy = proxies.unwrap_or_else(proxy::of_environment).intercept(&config.cluster_url);
    client(prepared(config), proxy)
}

/// Retries and waits are handled by the caller; timeouts apply per request.
fn prepared(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECTS_WITHIN);
    config.default_retry = false;
    config.read_timeout = None;
    let agent = concat!("kube-ipvs/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    config
}

fn client(config: Config, proxy: Option<Intercept>) -> Result<Client, ConnectError> {
    match proxy {
        Some(proxy) => proxy::client(&config, &proxy),
        None => Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error))),
    }
}

/// Returns a client that has its requests observed.
fn measured(client: Client, host: &str, observe: &ObserveRequest) -> Client {
    let namespace = client.default_namespace().to_owned();
    let (host, observe) = (Arc::<str>::from(host), Arc::clone(observe));
    let send = move |request: Request<Body>| {
        let (client, host, observe) = (client.clone(), Arc::clone(&host), Arc::clone(&observe));
        let (method, start) = (request.method().clone(), Instant::now());
        async move {
            // Observed even if the caller gives up the request.
            let mut status = guard(None, |status| {
                let (method, host, took) = (&method, &*host, start.elapsed());
                observe(&ApiRequest { method, host, status, took });
            });
            let answer = client.send(request).await;
            *status = answer.as_ref().ok().map(Response::status);
            answer
        }
    };
    Client::new(service_fn(send), namespace)
}

/// Resolves the configuration and the servers with their proxies, at least one. The precedence is
/// kube-proxy's: the URL before the kubeconfig's server, the service account only without both, the
/// kubeconfig's proxy before the environment's.
pub(super) async fn configure(
    access: &ApiAccess,
) -> Result<(Config, Vec<(Uri, Option<Intercept>)>), ConnectError> {
    let given = access.master.as_deref().map(|urls| urls.split(',').map(parse).collect());
    let given: Option<Vec<_>> = given.transpose()?;
    let (config, proxies) = match (&access.kubeconfig, given.as_deref()) {
        (Some(path), _) => {
            let file = kubeconfig::read(path);
            let file = file.map_err(|source| ConnectError::kubeconfig(path, source))?;
            of_kubeconfig(path, file).await?
        }
        (None, Some([first, ..])) => (Config::new(first.clone()), None),
        (None, _) => (Config::incluster().map_err(ConnectError::InCluster)?, None),
    };
    let proxies = proxies.unwrap_or_else(proxy::of_environment);
    let servers = given.unwrap_or_else(|| vec![config.cluster_url.clone()]);
    let upstreams = servers.into_iter().map(|server| (server.clone(), proxies.intercept(&server)));
    Ok((config, upstreams.collect()))
}

/// Returns the configuration by a kubeconfig, and the proxy that it names.
async fn of_kubeconfig(
    path: &Path,
    kubeconfig: Kubeconfig,
) -> Result<(Config, Option<Matcher>), ConnectError> {
    let proxies = proxy::of_kubeconfig(&kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|source| ConnectError::kubeconfig(path, source))?;
    // The proxy is configured here and not by `kube`.
    config.proxy_url = None;
    Ok((config, proxies))
}

fn parse(url: &str) -> Result<Uri, ConnectError> {
    let url = url.trim();
    let uri = url.parse().ok().filter(|uri: &Uri| {
        matches!((uri.scheme_str(), uri.host()), (Some("http" | "https"), Some(_)))
    });
    uri.ok_or_else(|| ConnectError::Master { url: url.to_owned() })
}
