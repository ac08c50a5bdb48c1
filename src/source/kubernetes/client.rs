//! How the API server is reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// An API server that does not take a connection within this time is not there.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// Where the API server is, and who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// A kubeconfig; the pod's own service account without.
    pub kubeconfig: Option<PathBuf>,
    /// The server's URL, instead of the kubeconfig's.
    pub master: Option<String>,
}

/// Why the API server cannot be reached, before anything has been asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
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
    /// The credentials or certificates are of no use.
    #[error("the API server's client cannot be set up: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// Makes a client. Nothing is asked yet.
///
/// # Errors
///
/// If what was given is of no use.
pub async fn connect(reach: &Reach) -> Result<Client, ClientError> {
    let mut config = configure(reach).await?;
    config.connect_timeout = Some(CONNECTS_WITHIN);
    // Failures are ours to count and to wait for; silence is looked after request by request.
    config.default_retry = false;
    config.read_timeout = None;
    let agent = concat!("kube-ipvs/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    Client::try_from(config).map_err(|error| ClientError::Client(Box::new(error)))
}

/// What was given, with kube-proxy's precedence: the URL before the kubeconfig's server, the
/// service account only where there is neither.
pub(super) async fn configure(reach: &Reach) -> Result<Config, ClientError> {
    let mut config = match (&reach.kubeconfig, &reach.master) {
        (Some(path), _) => from_file(path).await?,
        (None, Some(url)) => Config::new(parse(url)?),
        (None, None) => Config::incluster().map_err(ClientError::InCluster)?,
    };
    if let Some(url) = &reach.master {
        config.cluster_url = parse(url)?;
    }
    Ok(config)
}

async fn from_file(path: &Path) -> Result<Config, ClientError> {
    let wrong =
        |source| ClientError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)
}

fn parse(url: &str) -> Result<http::Uri, ClientError> {
    let wrong = |reason: &str| ClientError::Master { url: url.to_owned(), reason: reason.into() };
    let uri: http::Uri =
        url.parse().map_err(|_| wrong("not a URL such as https://10.0.0.1:6443"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err(wrong("not a URL such as https://10.0.0.1:6443")),
    }
}
