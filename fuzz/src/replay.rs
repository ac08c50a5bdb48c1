//! A kernel that says what it is told to say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kube_ipvs::kernel::Kernel;
use netlink_ipvs::{Attributes, Header, Socket, Subsystem, Transport, attributes, messages};
use rustix::io::Errno;

/// `NLM_F_ACK`
const ACK: u16 = 0x4;
/// `NLM_F_DUMP`
const DUMP: u16 = 0x300;
/// `GENL_ID_CTRL`, which knows the families of generic netlink.
const CONTROLLER: u16 = 16;
/// `CTRL_ATTR_FAMILY_ID`
const FAMILY_ID: u16 = 1;
/// What the kernel here calls IPVS's family.
pub(crate) const IPVS_FAMILY: u16 = 30;
/// `NFT_MSG_GETSETELEM` of `NFNL_SUBSYS_NFTABLES`.
const GET_ELEMENTS: u16 = 10 << 8 | 13;
/// `NFTA_SET_ELEM_LIST_SET`
const SET_NAME: u16 = 2;

/// All that was sent since the kernel was opened.
pub(crate) type Sent = Arc<Mutex<Vec<u8>>>;

/// A kernel whose part `protocol` answers each request with those of `said`, netlink messages, that
/// can be an answer to it. Other requests, and other parts, find nothing and agree to everything.
pub(crate) fn kernel(protocol: Subsystem, said: &[u8]) -> (Kernel, Sent) {
    let (script, sent) = (Arc::new(OnceLock::new()), Sent::default());
    let open = |of| {
        let script = (of == protocol).then(|| Arc::clone(&script));
        let sent = Arc::clone(&sent);
        Ok(Socket::over(Replay { protocol: of, script, sent, queue: VecDeque::new() }))
    };
    let kernel = Kernel::over(open).unwrap_or_else(|error| panic!("{error}"));
    let _ = script.set(said.to_vec());
    sent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    (kernel, sent)
}

/// A socket to such a part.
pub(crate) fn socket(protocol: Subsystem, said: &[u8]) -> Socket {
    let script = Some(Arc::new(OnceLock::from(said.to_vec())));
    Socket::over(Replay { protocol, script, sent: Sent::default(), queue: VecDeque::new() })
}

/// Appends a message.
pub(crate) fn push(to: &mut Vec<u8>, header: Header, payload: &[u8]) {
    let start = to.len();
    to.extend(((Header::LENGTH + payload.len()) as u32).to_ne_bytes());
    to.extend(header.kind.to_ne_bytes());
    to.extend(header.flags.to_ne_bytes());
    to.extend(header.sequence.to_ne_bytes());
    to.extend(header.port.to_ne_bytes());
    to.extend(payload);
    to.resize(start + (to.len() - start).next_multiple_of(4), 0);
}

#[derive(Debug)]
struct Replay {
    protocol: Subsystem,
    /// What is said once the kernel is open.
    script: Option<Arc<OnceLock<Vec<u8>>>>,
    sent: Sent,
    queue: VecDeque<Vec<u8>>,
}

impl Replay {
    fn answer(&self, request: Header, asked: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        let is_dump = request.flags & DUMP == DUMP;
        let numbered = |header: Header| Header { sequence: request.sequence, ..header };
        if self.protocol == Subsystem::Generic && request.kind == CONTROLLER {
            let mut payload = vec![1, 2, 0, 0];
            Attributes::new(&mut payload).u16(FAMILY_ID, IPVS_FAMILY);
            push(&mut answer, Header { flags: 0, ..request }, &payload);
        } else if let Some(said) = self.script.as_ref().and_then(|script| script.get()) {
            for (header, payload) in messages(said) {
                if self.is_answer((request, asked), (header, payload)) {
                    push(&mut answer, numbered(header), payload);
                }
            }
        }
        let kind = if is_dump { Header::DONE } else { Header::ERROR };
        if is_dump || request.flags & ACK != 0 {
            push(&mut answer, numbered(Header { kind, flags: 0, ..request }), &[0; 20]);
        }
        answer
    }

    /// Whether a message can be an answer to a request, as the kernel numbers them. What is asked
    /// of one table or set is answered with what is of that one, or does not say of which it is.
    fn is_answer(&self, (request, asked): (Header, &[u8]), said: (Header, &[u8])) -> bool {
        let (header, payload) = said;
        if matches!(header.kind, Header::ERROR | Header::DONE) {
            return true;
        }
        let set = |payload: &[u8]| {
            let mut all = attributes(payload.get(4..).unwrap_or_default());
            all.find(|it| it.kind == SET_NAME).map(|it| it.value.to_vec())
        };
        match self.protocol {
            Subsystem::Generic => header.kind == IPVS_FAMILY,
            Subsystem::Sockets => header.kind == request.kind,
            Subsystem::Route => Some(header.kind) == request.kind.checked_sub(2),
            Subsystem::Netfilter => {
                Some(header.kind) == request.kind.checked_sub(1)
                    && payload.first() == asked.first()
                    && (request.kind != GET_ELEMENTS
                        || set(payload).is_none_or(|name| Some(name) == set(asked)))
            }
        }
    }
}

impl Transport for Replay {
    fn port(&self) -> u32 {
        1
    }

    fn send(&mut self, requests: &[u8]) -> Result<(), Errno> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).extend(requests);
        for (header, payload) in messages(requests) {
            let answer = self.answer(header, payload);
            if !answer.is_empty() {
                self.queue.push_back(answer);
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let Some(datagram) = self.queue.pop_front() else { return Err(Errno::AGAIN) };
        for (to, from) in buffer.iter_mut().zip(&datagram) {
            *to = *from;
        }
        Ok(datagram.len())
    }
}
