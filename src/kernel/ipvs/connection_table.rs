//! IPVS's connections. The kernel lists them in `/proc/net/ip_vs_conn` alone; there is no netlink
//! request for them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use kube_ipvs_core::model::{Protocol, VirtualAddress};

const PATH: &str = "/proc/net/ip_vs_conn";

/// A connection in IPVS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpvsConnection {
    pub client: SocketAddr,
    /// The address of the pool.
    pub server: VirtualAddress,
    pub backend: SocketAddr,
    pub state: String,
    pub seconds_left: u32,
}

impl IpvsConnection {
    /// Reads a line of the table (`ip_vs_conn_seq_show` of the kernel). Returns `None` for the
    /// heading, and for the templates of session affinity, which have no port of a client.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let protocol = words.next()?.to_ascii_lowercase();
        let protocol = Protocol::ALL.into_iter().find(|it| it.name() == protocol)?;
        let mut socket = || Some(SocketAddr::new(ip(words.next()?)?, port(words.next()?)?));
        let (client, at, backend) = (socket()?, socket()?, socket()?);
        let server = VirtualAddress { ip: at.ip(), port: at.port(), protocol };
        let (state, seconds_left) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        (client.port() != 0).then_some(Self { client, server, backend, state, seconds_left })
    }
}

/// An IPv4 address is a number in hexadecimal.
fn ip(text: &str) -> Option<IpAddr> {
    let v4 = || u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into());
    text.parse().ok().or_else(v4)
}

fn port(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 16).ok()
}

/// Reads the table of this process's network namespace line by line, and passes each connection to
/// `take`.
///
/// # Errors
///
/// If the table cannot be read: the kernel has no IPVS yet, or the process lacks rights.
pub fn read_connections(mut take: impl FnMut(IpvsConnection)) -> io::Result<()> {
    for line in BufReader::new(File::open(PATH)?).lines() {
        if let Some(connection) = IpvsConnection::parse(&line?) {
            take(connection);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_read() {
        let read = |line: &str| {
            IpvsConnection::parse(line).map(|it| {
                let IpvsConnection { client, server, backend, state, seconds_left } = it;
                format!("{client} {server} {backend} {state} {seconds_left}")
            })
        };
        for (line, expected) in [
            (
                "TCP 0AF4010C 9C40 0A600014 0050 0AF4010B 1F90 ESTABLISHED     899",
                Some("10.244.1.12:40000 10.96.0.20:80/tcp 10.244.1.11:8080 ESTABLISHED 899"),
            ),
            (
                "UDP fd00:0010:0000:0000:0000:0000:0000:0005 9C40 fd00:0096:0000:0000:0000:0000:0000:0014 \
                 0035 fd00:0010:0000:0000:0000:0000:0000:0006 14E9 UDP             300",
                Some("[fd00:10::5]:40000 [fd00:96::14]:53/udp [fd00:10::6]:5353 UDP 300"),
            ),
            ("TCP 0AF4010C 0000 0A600014 0050 0AF4010B 1F90 NONE            10800", None),
            (
                "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData",
                None,
            ),
        ] {
            assert_eq!(read(line).as_deref(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_causes_a_panic(line in "(TCP|UDP|.{0,4}) [0-9A-Fa-f: .é]{0,90}") {
            let _ = IpvsConnection::parse(&line);
        }
    }
}
