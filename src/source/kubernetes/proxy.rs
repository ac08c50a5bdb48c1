//! Proxies between the agent and the API server.
//!
//! `kube` compares `NO_PROXY` with the proxy instead of the server, fails on an empty entry in that
//! list, and uses no proxy with a service account. Therefore the proxy is selected here.

use std::env;
use std::error::Error;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Builder;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{Context, Kubeconfig, NamedContext};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

use super::connect_error::ConnectError;

/// Destinations that never use a proxy, as in client-go.
const HERE: &str = "localhost,127.0.0.0/8,::1";
/// The meaning of `*`, which the library applies to names only.
const EVERYTHING: &str = "*,0.0.0.0/0,::/0";

/// Reads the proxies from the environment variables that client-go reads.
pub(super) fn of_environment() -> Matcher {
    of_variables(|name| env::var(name).ok())
}

fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Matcher {
    let first = |names: [&str; 2]| {
        let values = names.into_iter().filter_map(&variable);
        values.map(|value| value.trim().to_owned()).find(|value| !value.is_empty())
    };
    let of = |names| first(names).unwrap_or_default();
    let mut direct = of(["NO_PROXY", "no_proxy"]);
    if direct == "*" {
        direct = EVERYTHING.to_owned();
    }
    Matcher::builder()
        .http(of(["HTTP_PROXY", "http_proxy"]))
        .https(of(["HTTPS_PROXY", "https_proxy"]))
        .no(format!("{direct},{HERE}"))
        .build()
}

/// Reads the proxy of the kubeconfig, which applies to every server; `None` if it has none.
pub(super) fn of_kubeconfig(kubeconfig: &Kubeconfig) -> Result<Option<Matcher>, ConnectError> {
    let Some(url) = proxy_url(kubeconfig) else { return Ok(None) };
    let matcher = Matcher::builder().all(url).build();
    // An invalid URL would mean no proxy.
    match matcher.intercept(&Uri::from_static("https://server")) {
        Some(_) => Ok(Some(matcher)),
        None => Err(ConnectError::Proxy { reason: "`proxy-url` of the kubeconfig is not a URL" }),
    }
}

/// Returns `proxy-url` of the current context's cluster.
fn proxy_url(kubeconfig: &Kubeconfig) -> Option<&str> {
    let current = kubeconfig.current_context.as_deref()?;
    let of_name = |named: &&NamedContext| named.name == current;
    let Context { cluster, .. } = kubeconfig.contexts.iter().find(of_name)?.context.as_ref()?;
    let named = kubeconfig.clusters.iter().find(|named| named.name == *cluster)?;
    let url = named.cluster.as_ref()?.proxy_url.as_deref();
    url.filter(|url| !url.trim().is_empty())
}

/// Returns a client that uses a proxy.
pub(super) fn client(config: &Config, proxy: &Intercept) -> Result<Client, ConnectError> {
    let mut tcp = HttpConnector::new();
    // The server's URL determines TLS.
    tcp.enforce_http(false);
    let uri = proxy.uri().clone();
    match uri.scheme_str() {
        Some("http") => through(config, tunnel(proxy, tcp)),
        Some("https") => {
            let tls = config.rustls_https_connector_with_connector(tcp).map_err(wrong)?;
            through(config, tunnel(proxy, tls))
        }
        Some("socks5" | "socks5h") => {
            let socks = SocksV5::new(uri, tcp);
            match proxy.raw_auth() {
                Some((user, password)) => {
                    through(config, socks.with_auth(user.to_owned(), password.to_owned()))
                }
                None => through(config, socks),
            }
        }
        _ => Err(ConnectError::Proxy { reason: "the scheme must be http, https or socks5" }),
    }
}

fn tunnel<C>(proxy: &Intercept, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.uri().clone(), connector);
    match proxy.basic_auth() {
        Some(auth) => tunnel.with_auth(auth.clone()),
        None => tunnel,
    }
}

/// Builds the same client as `kube` with another connector.
fn through<C>(config: &Config, connector: C) -> Result<Client, ConnectError>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError> + Error + Send + Sync + 'static,
{
    let connector = config.rustls_https_connector_with_connector(connector).map_err(wrong)?;
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(wrong)?)
        .layer(config.extra_headers_layer().map_err(wrong)?)
        .map_err(BoxError::from)
        .service(Builder::new(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

fn wrong(error: kube::Error) -> ConnectError {
    ConnectError::Client(Box::new(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn of(variables: Variables<'_>, server: &str) -> Option<String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let proxies = of_variables(|name| variables.get(name).map(ToString::to_string));
        let proxy = proxies.intercept(&server.parse().unwrap())?;
        Some(proxy.uri().to_string())
    }

    #[test]
    fn the_environment_says_what_is_reached_through_a_proxy() {
        let server = "https://192.0.2.1:6443";
        let https = ("HTTPS_PROXY", "http://proxy.example:3128");
        let cases: [(Variables<'_>, &str, Option<&str>); 15] = [
            (&[], server, None),
            (&[https], server, Some("http://proxy.example:3128/")),
            (&[("https_proxy", "proxy.example:3128")], server, Some("http://proxy.example:3128/")),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "http://b:1")], server, Some("http://b:1/")),
            (&[("HTTPS_PROXY", "socks5://b:1")], server, Some("socks5://b:1/")),
            (&[("HTTP_PROXY", "http://b:1")], server, None),
            (&[("HTTP_PROXY", "http://b:1")], "http://192.0.2.1", Some("http://b:1/")),
            // client-go does not read this variable.
            (&[("ALL_PROXY", "http://b:1")], server, None),
            (&[https, ("NO_PROXY", "192.0.2.1")], server, None),
            (&[https, ("no_proxy", ".svc, 192.0.2.0/24,")], server, None),
            (&[https, ("NO_PROXY", ".example")], "https://api.example:6443", None),
            (&[https, ("NO_PROXY", "*")], server, None),
            (&[https, ("NO_PROXY", ",<local>,")], server, Some("http://proxy.example:3128/")),
            (&[https], "https://127.0.0.1:6443", None),
            (&[https], "https://[::1]:6443", None),
        ];
        for (variables, server, expected) in cases {
            assert_eq!(of(variables, server).as_deref(), expected, "{variables:?} {server}");
        }
    }
}
