//! Proxies on the way to the server.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use kube_ipvs::source::kubernetes::{ApiAccess, Server};
use serde_json::Value;

use super::followed::{Followed, quick};
use crate::api::objects::service;
use crate::api::{ApiServer, SERVICES};

/// A proxy on this machine, to which every name is this machine's.
struct Proxy {
    address: SocketAddr,
    /// Where it was asked to lead, and by whom.
    asked: Receiver<(String, String)>,
}

impl Proxy {
    /// One that is asked with CONNECT.
    fn http() -> Self {
        Self::start(|client| {
            let mut lines = BufReader::new(client.try_clone()?).lines();
            let request = lines.next().unwrap_or(Ok(String::new()))?;
            let mut auth = String::new();
            for line in lines {
                match line?.split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case("proxy-authorization") => {
                        value.clone_into(&mut auth);
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
            Ok((target.unwrap_or_default().to_owned(), auth))
        })
    }

    /// One that is asked as RFC 1928 says, with user and password (RFC 1929).
    fn socks() -> Self {
        Self::start(|client| {
            let mut next = |length: usize| {
                let mut bytes = vec![0; length];
                client.read_exact(&mut bytes).map(|()| bytes)
            };
            let methods = next(2)?[1];
            next(methods.into())?;
            client.write_all(&[5, 2])?;
            let mut text = |skip: usize| -> io::Result<String> {
                let mut head = vec![0; skip + 1];
                client.read_exact(&mut head)?;
                let mut bytes = vec![0; head[skip].into()];
                client.read_exact(&mut bytes)?;
                Ok(String::from_utf8(bytes).unwrap())
            };
            let auth = format!("{}:{}", text(1)?, text(0)?);
            client.write_all(&[1, 0])?;
            let mut head = [0; 4];
            client.read_exact(&mut head)?;
            assert_eq!(head[3], 1, "an IPv4 address");
            let mut at = [0; 6];
            client.read_exact(&mut at)?;
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            let [a, b, c, d, port @ ..] = at;
            let target = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes(port));
            Ok((SocketAddr::from(target).to_string(), auth))
        })
    }

    /// `meet` reads what a client asks for, and answers that it has it.
    fn start(meet: fn(&mut TcpStream) -> io::Result<(String, String)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                let tell = tell.clone();
                thread::spawn(move || -> io::Result<()> {
                    let mut client = client?;
                    let (target, auth) = meet(&mut client)?;
                    let port = target.rsplit(':').next().unwrap().parse().unwrap();
                    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
                    let _ = tell.send((target, auth));
                    let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
                    thread::spawn(move || pass(client_too, server_too));
                    pass(server, client);
                    Ok(())
                });
            }
        });
        Self { address, asked }
    }
}

/// Passes on what comes, until nothing more does.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// A way to a server through the kubeconfig's `proxy-url`.
fn reach(server: &ApiServer, proxy: &str) -> (tempfile::TempDir, ApiAccess) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let mut kubeconfig: Value = serde_json::from_str(&server.kubeconfig()).unwrap();
    kubeconfig["clusters"][0]["cluster"]["proxy-url"] = proxy.into();
    fs::write(&path, kubeconfig.to_string()).unwrap();
    (folder, ApiAccess { kubeconfig: Some(path), master: None })
}

#[test]
fn a_kubeconfigs_proxy_leads_there() {
    for (scheme, proxy, expected) in [
        ("http", Proxy::http(), "Basic bm9kZTpzQGNyZXQ="),
        ("socks5", Proxy::socks(), "node:s@cret"),
    ] {
        let server = ApiServer::start_tls();
        server.put(service("web", "10.96.0.1"));
        let url = format!("{scheme}://node:s%40cret@{}", proxy.address);
        let (_folder, reach) = reach(&server, &url);
        Followed::reaching(reach.clone(), quick()).until_services(&["web"]);
        let (target, auth) = proxy.asked.recv().unwrap();
        assert_eq!(format!("https://{target}"), server.url(), "{scheme}");
        assert_eq!(auth, expected, "{scheme}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(Server::find(&reach)).unwrap();
        assert_eq!(found.sockets().count(), 2, "the server's and the proxy's");
    }
}

#[test]
fn an_invalid_proxy_is_reported_with_the_valid_forms() {
    let server = ApiServer::start();
    for (proxy, expected) in [
        ("no url", "`proxy-url` of the kubeconfig is not a URL"),
        ("socks4://192.0.2.1", "the scheme must be http, https or socks5"),
    ] {
        let (_folder, reach) = reach(&server, proxy);
        let error = super::connection::error_of(&reach).to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

/// With a program of its own, as variables are a whole process's.
#[test]
fn the_environments_proxy_leads_there() {
    let (server, proxy) = (ApiServer::start(), Proxy::http());
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"))
        .args(["doctor", "--node-name=n1", &format!("--master=http://api.example:{port}")])
        .env("http_proxy", proxy.address.to_string())
        // A list as it may be written, which costs nothing.
        .env("NO_PROXY", ".svc,<local>,,10.0.0.0/8,")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let (target, _) = proxy.asked.try_recv().unwrap_or_else(|_| panic!("{told}"));
    assert_eq!(target, format!("api.example:{port}"));
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.contains(SERVICES) || request.contains("default/services")),
        "{told}"
    );
}
