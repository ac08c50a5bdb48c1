//! Listening addresses as kube-proxy takes them.

use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::read_ip;

/// Reads `ADDR:PORT`, `:PORT`, `[ADDR]:PORT` or an address alone, which gets the default port.
/// An empty text, or port 0, listens nowhere.
///
/// # Errors
///
/// Says what an address looks like.
pub(super) fn parse(text: &str, default_port: u16) -> Result<Option<SocketAddr>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let ip = |text: &str| read_ip(text.trim_matches(['[', ']']));
    // As `ip` reads it; one of IPv6 keeps its scope.
    let canonical = |socket: SocketAddr| match socket.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, socket.port()),
        IpAddr::V6(_) => socket,
    };
    let socket = text
        .parse()
        .ok()
        .map(canonical)
        .or_else(|| ip(text).map(|ip| SocketAddr::new(ip, default_port)))
        .or_else(|| {
            let (host, port) = text.rsplit_once(':')?;
            let any = || Some(IpAddr::from([0, 0, 0, 0]));
            let ip = if host.is_empty() { any() } else { ip(host) };
            Some(SocketAddr::new(ip?, port.parse().ok()?))
        })
        .ok_or_else(|| format!("{text:?} is not ADDRESS:PORT (an IPv6 address in brackets)"))?;
    Ok((socket.port() != 0).then_some(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_proxys_forms_are_read() {
        let cases = [
            ("0.0.0.0:10256", Some("0.0.0.0:10256")),
            ("127.0.0.1", Some("127.0.0.1:1")),
            ("::", Some("[::]:1")),
            ("[::]:10249", Some("[::]:10249")),
            (":10249", Some("0.0.0.0:10249")),
            ("127.000.000.001:10249", Some("127.0.0.1:10249")),
            ("[::0001]:10249", Some("[::1]:10249")),
            ("[fd00::0]", Some("[fd00::]:1")),
            ("fd00::0", Some("[fd00::]:1")),
            ("[FD00:0::0]:10249", Some("[fd00::]:10249")),
            ("[::ffff:192.0.2.5]", Some("192.0.2.5:1")),
            ("[::ffff:192.0.2.5]:10249", Some("192.0.2.5:10249")),
            ("[fe80::1%2]:10249", Some("[fe80::1%2]:10249")),
            ("", None),
            ("0.0.0.0:0", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|text| text.parse().expect("address"));
            assert_eq!(parse(text, 1), Ok(expected), "{text}");
        }
        assert!(parse("localhost:80", 1).is_err());
    }
}
