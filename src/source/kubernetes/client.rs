//! How the API server is reached.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use http::{Request, Response, StatusCode, Uri};
use hyper_util::client::proxy::matcher::Intercept;
use kube::client::Body;
use kube::config::{InClusterError, KubeConfigOptions, KubeconfigError};
use kube::{Client, Config};

use super::kubeconfig;
use super::proxy::{self, Proxies};

/// An API server that does not take a connection within this time is not there.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// Where the API server is, and who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ApiAccess {
    /// A kubeconfig; the pod's own service account without.
    pub kubeconfig: Option<PathBuf>,
    /// The server's URL, instead of the kubeconfig's; or those of several, separated by commas.
    pub master: Option<String>,
}

/// Why the API server cannot be reached, before anything has been asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig is of no use.
    #[error("{path}: {source}", path = path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error("no --kubeconfig was given, and this is no pod with a service account: {0}")]
    InCluster(#[source] InClusterError),
    /// The URL is none.
    #[error("--master {url:?}: {reason}")]
    Master {
        /// What was given.
        url: String,
        /// Why it is none.
        reason: String,
    },
    /// The proxy on the way is of no use.
    #[error("the API server cannot be reached through its proxy: {reason}")]
    Proxy {
        /// Why.
        reason: &'static str,
    },
    /// The credentials or certificates are of no use.
    #[error("the API server's client cannot be set up: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// A client of each API server, of which one is asked for as long as it answers.
#[derive(Clone)]
pub struct Clients {
    all: Arc<[Client]>,
    /// Counts how often another one was turned to.
    turn: Arc<AtomicUsize>,
}

impl Clients {
    /// The client of the server whose turn it is.
    #[must_use]
    pub fn current(&self) -> &Client {
        self.at(self.turn.load(Ordering::Relaxed))
    }

    #[expect(clippy::indexing_slicing, reason = "there is one at least, or no URL was read")]
    fn at(&self, turn: usize) -> &Client {
        &self.all[turn % self.all.len()]
    }

    /// Sends a request to the server whose turn it is. If that is not there, or says that it is not
    /// ready, the next request goes to the next one.
    pub(super) async fn send(&self, request: Request<Body>) -> kube::Result<Response<Body>> {
        let turn = self.turn.load(Ordering::Relaxed);
        let mut attempt = ConnectAttempt { clients: self, turn, is_answered: false };
        let answer = self.at(turn).send(request).await?;
        attempt.is_answered = answer.status() != StatusCode::SERVICE_UNAVAILABLE;
        Ok(answer)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// A request, also one whose answer nobody waits for any more.
struct ConnectAttempt<'a> {
    clients: &'a Clients,
    turn: usize,
    is_answered: bool,
}

impl Drop for ConnectAttempt<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        // Of several that failed with the same server, one turns away from it.
        let (turn, next) = (&self.clients.turn, self.turn.wrapping_add(1));
        let _ = turn.compare_exchange(self.turn, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Makes the clients. Nothing is asked yet.
///
/// # Errors
///
/// If what was given is of no use.
pub async fn connect(reach: &ApiAccess) -> Result<Clients, ConnectError> {
    let (mut config, ways) = configure(reach).await?;
    config.connect_timeout = Some(CONNECTS_WITHIN);
    // Failures are ours to count and to wait for; silence is looked after request by request.
    config.default_retry = false;
    config.read_timeout = None;
    let agent = concat!("kube-ipvs/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    let client = |Way { server, proxy }: Way| {
        let mut config = config.clone();
        config.cluster_url = server;
        match proxy {
            Some(proxy) => proxy::client(&config, &proxy),
            None => Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error))),
        }
    };
    let all: Result<_, _> = ways.into_iter().map(client).collect();
    Ok(Clients { all: all?, turn: Arc::default() })
}

/// A way to an API server.
pub(super) struct Way {
    /// The server's URL.
    pub(super) server: Uri,
    /// The proxy that it is reached through.
    pub(super) proxy: Option<Intercept>,
}

/// What was given, and the ways to the servers, at least one. With kube-proxy's precedence: the URL
/// before the kubeconfig's server, the service account only where there is neither; the kubeconfig's
/// proxy before the environment's.
pub(super) async fn configure(reach: &ApiAccess) -> Result<(Config, Vec<Way>), ConnectError> {
    let given = reach.master.as_deref().map(|urls| urls.split(',').map(parse).collect());
    let given: Option<Vec<_>> = given.transpose()?;
    let (mut config, proxies) = match (&reach.kubeconfig, given.as_deref()) {
        (Some(path), _) => from_file(path).await?,
        (None, Some([first, ..])) => (Config::new(first.clone()), None),
        (None, _) => (Config::incluster().map_err(ConnectError::InCluster)?, None),
    };
    // As far as `kube` knows, there is none.
    config.proxy_url = None;
    let proxies = proxies.unwrap_or_else(Proxies::of_environment);
    let servers = given.unwrap_or_else(|| vec![config.cluster_url.clone()]);
    let ways = servers.into_iter().map(|server| Way { proxy: proxies.of(&server), server });
    Ok((config, ways.collect()))
}

async fn from_file(path: &Path) -> Result<(Config, Option<Proxies>), ConnectError> {
    let wrong =
        |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let file = kubeconfig::read(path).map_err(wrong)?;
    let proxies = Proxies::of_kubeconfig(&file)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Ok((config.map_err(wrong)?, proxies))
}

fn parse(url: &str) -> Result<Uri, ConnectError> {
    let url = url.trim();
    let wrong = |reason: &str| ConnectError::Master { url: url.to_owned(), reason: reason.into() };
    let uri: Uri = url.parse().map_err(|_| wrong("not a URL such as https://10.0.0.1:6443"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err(wrong("not a URL such as https://10.0.0.1:6443")),
    }
}
