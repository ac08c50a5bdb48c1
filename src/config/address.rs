//! Listening addresses as kube-proxy takes them.

use std::net::{IpAddr, SocketAddr};

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
    let ip = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let socket = text
        .parse::<SocketAddr>()
        .ok()
        .or_else(|| ip(text).map(|ip| SocketAddr::new(ip, default_port)))
        .or_else(|| {
            let port = text.strip_prefix(':')?.parse().ok()?;
            Some(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port))
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
