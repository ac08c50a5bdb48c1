//! A netlink socket that talks with the kernel and with nobody else.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR};
use rustix::io::Errno;

use super::answer::outcome;
use super::{
    Answers, Attributes, Batch, Header, KernelError, KernelTransport, NetlinkError, Subsystem,
    Transport, messages,
};

/// How often a dump is repeated that others' changes interrupted.
const DUMP_TRIES: usize = 10;
/// Room for one datagram: the kernel fills dumps in pages of up to 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// How often a system call is repeated that a signal interrupted, or that told of lost answers.
const CALL_TRIES: usize = 100;

/// A netlink socket of this process's network namespace.
///
/// It never waits. The kernel works a request off inside the call that sends it, and queues the
/// next part of a dump inside the call that receives the last one; so an answer that cannot be
/// received at once has been lost.
#[derive(Debug)]
pub struct Socket {
    transport: Box<dyn Transport>,
    buffer: Box<[u8]>,
    question: Batch,
    sequence: u32,
}

impl Socket {
    /// Opens a socket of this thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the kernel has no netlink of this kind.
    pub fn open(protocol: Subsystem) -> Result<Self, KernelError> {
        Ok(Self::over(KernelTransport::open(protocol)?))
    }

    /// Speaks with the kernel over a transport.
    #[must_use]
    pub fn over(transport: impl Transport + 'static) -> Self {
        Self {
            transport: Box::new(transport),
            buffer: vec![0; DATAGRAM].into(),
            question: Batch::default(),
            sequence: 1,
        }
    }

    /// Its port: notifications of changes that were made through it carry that.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.transport.port()
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
        let mut losses = 0;
        while answers.get(acknowledged).is_some_and(Option::is_none) {
            let datagram = match self.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(answers),
                // Answers were dropped; those before them can still be read.
                Err(KernelError::Lost(_)) if losses < CALL_TRIES => {
                    losses += 1;
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
        if losses == 0 {
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
        let mut losses = 0;
        loop {
            let datagram = match self.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Err(KernelError::Lost(request)),
                Err(KernelError::Lost(_)) if losses < CALL_TRIES => {
                    losses += 1;
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
        uninterrupted(|| self.transport.send(batch.bytes())).map_err(failed)?;
        Ok(base)
    }

    /// The next datagram, if there is one.
    ///
    /// # Errors
    ///
    /// [`KernelError::Lost`] if the kernel had to drop answers. What it had queued before can
    /// still be received.
    fn receive(&mut self) -> Result<Option<&[u8]>, KernelError> {
        let failed = |errno: Errno| KernelError::socket("recv")(errno.into());
        let length = match uninterrupted(|| self.transport.receive(&mut self.buffer)) {
            Ok(length) => length,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::NOBUFS) => return Err(KernelError::Lost("netlink")),
            Err(errno) => return Err(failed(errno)),
        };
        let datagram = self.buffer.get(..length).ok_or_else(|| failed(Errno::MSGSIZE))?;
        Ok(Some(datagram))
    }
}

/// The outcome of a system call, made again where a signal interrupted it, but not without end.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..CALL_TRIES {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
    call()
}

/// Whether a dump shows one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dumped {
    Whole,
    Interrupted,
}
