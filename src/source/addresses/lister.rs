//! Asking for the list of addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, recv};

use super::usable::node_addresses;
use super::{AddressError, BUFFER_BYTES, DUMP_ATTEMPTS};
use crate::model::NAME;

/// Devices whose addresses are service addresses: ours and kube-proxy's.
const SERVICE_DEVICES: [&str; 2] = [NAME, "kube-ipvs0"];
/// How long the kernel may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What one dump came to.
enum Dump {
    Complete(Vec<AddressMessage>),
    Torn,
}

/// Asks for the list.
pub(super) struct Lister {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Lister {
    pub(super) fn open() -> Result<Self, AddressError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            set_socket_timeout(socket.as_fd(), Timeout::Recv, Some(ANSWER_TIMEOUT))?;
            Ok(socket)
        };
        let socket = open().map_err(AddressError::Open)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    pub(super) fn list(&mut self) -> Result<Vec<IpAddr>, AddressError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Dump::Complete(messages) = self.dump()? {
                let socket = self.socket.as_fd();
                let hidden: Vec<u32> = SERVICE_DEVICES
                    .iter()
                    .filter_map(|name| name_to_index(socket, name).ok())
                    .collect();
                return Ok(node_addresses(&messages, &hidden));
            }
        }
        Err(AddressError::Torn)
    }

    fn dump(&mut self) -> Result<Dump, AddressError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(
            header,
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            ),
        );
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(AddressError::List)?;

        let mut answer = Answer::new(self.sequence);
        while !answer.done {
            let received = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty());
            let (length, _) = received.map_err(|error| AddressError::List(error.into()))?;
            answer.read(self.buffer.get(..length).unwrap_or_default())?;
        }
        Ok(if answer.torn { Dump::Torn } else { Dump::Complete(answer.messages) })
    }
}

/// Reads a datagram as the answer to a request for the list.
pub(super) fn decode(datagram: &[u8]) -> Result<Vec<IpAddr>, AddressError> {
    let mut answer = Answer::new(0);
    answer.read(datagram)?;
    Ok(node_addresses(&answer.messages, &[]))
}

/// The answer to a dump request, as far as it has been read.
struct Answer {
    sequence: u32,
    messages: Vec<AddressMessage>,
    torn: bool,
    done: bool,
}

impl Answer {
    fn new(sequence: u32) -> Self {
        Self { sequence, messages: Vec::new(), torn: false, done: false }
    }

    /// Reads one datagram. Messages of another request are skipped.
    fn read(&mut self, mut datagram: &[u8]) -> Result<(), AddressError> {
        let malformed = |error: DecodeError| AddressError::Answer(error.to_string());
        while !datagram.is_empty() {
            let envelope = NetlinkBuffer::new_checked(datagram).map_err(malformed)?;
            let length = envelope.length() as usize;
            if envelope.sequence_number() == self.sequence {
                self.torn |= envelope.flags() & NLM_F_DUMP_INTR != 0;
                let message = NetlinkMessage::deserialize(datagram).map_err(malformed)?;
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
                        self.messages.push(address);
                    }
                    NetlinkPayload::Done(_) => self.done = true,
                    NetlinkPayload::Error(error) => {
                        // `to_io` negates, and panics of the least number.
                        let number = error.raw_code().saturating_neg();
                        return Err(AddressError::List(io::Error::from_raw_os_error(number)));
                    }
                    _ => {}
                }
            }
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_can_be_asked() {
        assert!(Lister::open().and_then(|mut lister| lister.list()).is_ok());
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut answer = Answer::new(0);
            let _ = answer.read(&bytes);
        }

        /// Random attributes behind a right envelope reach the inner decoder.
        #[test]
        fn no_address_message_panics(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            kind in prop_oneof![Just(20u16), Just(2), Just(3)],
        ) {
            let mut bytes = Vec::new();
            bytes.extend((16 + body.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            let _ = Answer::new(0).read(&bytes);
        }
    }
}
