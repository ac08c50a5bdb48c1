//! A netlink socket that talks with the kernel and with nobody else.

use std::fmt;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR};
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::answer::outcome;
use super::{Answers, Attributes, Batch, Header, KernelError, NetlinkError, messages};

/// How often a dump is repeated that others' changes interrupted.
const DUMP_TRIES: usize = 10;
/// Room for one datagram: the kernel fills dumps in pages of up to 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// Room for the answers to a batch, even if each is an error.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Which part of the kernel is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Generic netlink: IPVS.
    Generic,
    /// Netfilter: nf_tables, conntrack.
    Netfilter,
    /// Routing: links, addresses, rules, routes.
    Route,
}

impl Protocol {
    fn number(self) -> isize {
        match self {
            Self::Generic => NETLINK_GENERIC,
            Self::Netfilter => NETLINK_NETFILTER,
            Self::Route => NETLINK_ROUTE,
        }
    }

    /// The largest send. A transaction of nf_tables is one send.
    fn send_buffer(self) -> usize {
        match self {
            Self::Netfilter => 32 << 20,
            Self::Generic | Self::Route => 1 << 20,
        }
    }
}

/// A netlink socket of this process's network namespace.
///
/// It never waits. The kernel works a request off inside the call that sends it, and queues the
/// next part of a dump inside the call that receives the last one; so an answer that cannot be
/// received at once has been lost.
pub struct Socket {
    raw: RawSocket,
    port: u32,
    buffer: Box<[u8]>,
    question: Batch,
    sequence: u32,
}

impl Socket {
    /// Opens a socket. Larger buffers need CAP_NET_ADMIN; without it, the requests themselves
    /// will be refused with a better message than an error here could give.
    ///
    /// # Errors
    ///
    /// If the kernel has no netlink of this kind.
    pub fn open(protocol: Protocol) -> Result<Self, KernelError> {
        let mut raw = RawSocket::new(protocol.number()).map_err(KernelError::socket("socket"))?;
        let port = raw.bind_auto().map_err(KernelError::socket("bind"))?.port_number();
        // In generic netlink every process may send to every socket. Connected to the kernel,
        // this one receives from nobody else.
        raw.connect(&SocketAddr::new(0, 0)).map_err(KernelError::socket("connect"))?;
        raw.set_cap_ack(true).map_err(KernelError::socket("setsockopt NETLINK_CAP_ACK"))?;
        raw.set_ext_ack(true).map_err(KernelError::socket("setsockopt NETLINK_EXT_ACK"))?;
        let _ = sockopt::set_socket_send_buffer_size_force(&raw, protocol.send_buffer());
        let _ = sockopt::set_socket_recv_buffer_size_force(&raw, RECEIVE_BUFFER);
        let buffer = vec![0; DATAGRAM].into();
        Ok(Self { raw, port, buffer, question: Batch::default(), sequence: 1 })
    }

    /// The socket below, to set options of a protocol.
    #[must_use]
    pub fn raw(&self) -> &RawSocket {
        &self.raw
    }

    /// Its port: notifications of changes that were made through it carry that.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends a batch in one system call and reads until the request at index `acknowledged` is
    /// answered.
    ///
    /// The kernel reports every failure, and success only where it is asked to: for that one
    /// request, which is to be the last one that the kernel answers (in nf_tables the one before
    /// the batch's end). Then those without an answer have succeeded. `None` stands for those of
    /// which nothing is known because answers were lost, or because the kernel gave the batch up
    /// before it came to them.
    ///
    /// What a failure means for the others is the protocol's matter: IPVS and routing carry on,
    /// nf_tables takes everything back.
    ///
    /// # Errors
    ///
    /// If the batch could not be sent or its answers could not be received.
    pub fn transact(
        &mut self,
        batch: &mut Batch,
        acknowledged: usize,
    ) -> Result<Answers, KernelError> {
        let mut answers: Answers = vec![None; batch.len()];
        let base = self.send(batch, acknowledged)?;
        let mut lost = false;
        while answers.get(acknowledged).is_some_and(Option::is_none) {
            let datagram = match self.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(answers),
                // Answers were dropped; those before them can still be read.
                Err(KernelError::Lost(_)) => {
                    lost = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (header, payload) in messages(datagram) {
                let index = header.sequence.wrapping_sub(base) as usize;
                if let (Header::ERROR, Some(answer)) = (header.kind, answers.get_mut(index)) {
                    *answer = Some(outcome(header, payload));
                }
            }
        }
        if !lost {
            answers.iter_mut().for_each(|answer| {
                answer.get_or_insert(Ok(()));
            });
        }
        Ok(answers)
    }

    /// Sends one request and hands its answers to `take`, until it is acknowledged.
    ///
    /// # Errors
    ///
    /// If the request is refused or its answer is lost.
    pub fn request(
        &mut self,
        request: &'static str,
        kind: u16,
        fill: impl FnOnce(&mut Attributes<'_>),
        take: impl FnMut(Header, &[u8]),
    ) -> Result<(), KernelError> {
        match self.ask(request, (kind, 0), fill, take)? {
            Dumped::Whole => Ok(()),
            Dumped::Interrupted => Err(KernelError::Lost(request)),
        }
    }

    /// Sends a dump request and hands each answer to `take`, with what was made of those before.
    /// A dump that others' changes interrupted is repeated and begins with nothing again.
    ///
    /// # Errors
    ///
    /// If the request is refused or its answer is lost.
    pub fn dump<T: Default>(
        &mut self,
        request: &'static str,
        kind: u16,
        fill: impl Fn(&mut Attributes<'_>),
        mut take: impl FnMut(&mut T, Header, &[u8]),
    ) -> Result<T, KernelError> {
        for _ in 0..DUMP_TRIES {
            let mut found = T::default();
            let dumped = self.ask(request, (kind, NLM_F_DUMP), &fill, |header, payload| {
                take(&mut found, header, payload);
            });
            match dumped {
                Ok(Dumped::Whole) => return Ok(found),
                // What is left of a dump stands in the way of the next one (EBUSY).
                Ok(Dumped::Interrupted) | Err(KernelError::Lost(_)) => {
                    while let Ok(Some(_)) = self.receive() {}
                }
                Err(error) => return Err(error),
            }
        }
        Err(KernelError::Lost(request))
    }

    fn ask(
        &mut self,
        request: &'static str,
        (kind, flags): (u16, u16),
        fill: impl FnOnce(&mut Attributes<'_>),
        mut take: impl FnMut(Header, &[u8]),
    ) -> Result<Dumped, KernelError> {
        let mut question = std::mem::take(&mut self.question);
        question.clear();
        question.push(kind, flags, fill);
        let sent = self.send(&mut question, 0);
        self.question = question;
        let sequence = sent?;
        let mut dumped = Dumped::Whole;
        loop {
            let datagram = match self.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Err(KernelError::Lost(request)),
                Err(KernelError::Lost(_)) => {
                    dumped = Dumped::Interrupted;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (header, payload) in messages(datagram) {
                if header.sequence != sequence {
                    continue;
                }
                if header.flags & NLM_F_DUMP_INTR != 0 {
                    dumped = Dumped::Interrupted;
                }
                if !matches!(header.kind, Header::DONE | Header::ERROR) {
                    take(header, payload);
                    continue;
                }
                return match outcome(header, payload) {
                    Ok(()) => Ok(dumped),
                    Err(NetlinkError {
                        errno: Errno::INTR | Errno::AGAIN | Errno::BUSY, ..
                    }) => Ok(Dumped::Interrupted),
                    Err(error) => Err(KernelError::refused(request, error)),
                };
            }
        }
    }

    /// Numbers the requests and sends them. Returns the number of the first, which no earlier
    /// request had.
    fn send(&mut self, batch: &mut Batch, acknowledged: usize) -> Result<u32, KernelError> {
        let failed = |errno: Errno| KernelError::socket("send")(errno.into());
        if batch.is_overlong() {
            return Err(failed(Errno::MSGSIZE));
        }
        let base = self.sequence;
        self.sequence = base.wrapping_add(batch.len() as u32);
        batch.seal(base, acknowledged);
        loop {
            match rustix::net::send(&self.raw, batch.bytes(), SendFlags::empty()) {
                Ok(_) => return Ok(base),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// The next datagram, if there is one.
    ///
    /// # Errors
    ///
    /// [`KernelError::Lost`] if the kernel had to drop answers. What it had queued before can
    /// still be received.
    fn receive(&mut self) -> Result<Option<&[u8]>, KernelError> {
        let failed = |errno: Errno| KernelError::socket("recv")(errno.into());
        let length = loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            match rustix::net::recv(&self.raw, &mut *self.buffer, flags) {
                Ok((held, sent)) if held < sent => return Err(failed(Errno::MSGSIZE)),
                Ok((held, _)) => break held,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::NOBUFS) => return Err(KernelError::Lost("netlink")),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        };
        Ok(self.buffer.get(..length))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("raw", &self.raw).finish_non_exhaustive()
    }
}

/// Whether a dump shows one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dumped {
    Whole,
    Interrupted,
}
