//! A netlink socket that communicates with the kernel only.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR};
use rustix::io::Errno;

use super::answer::outcome;
use super::{
    Answers, Attributes, Batch, Header, KernelError, KernelTransport, NetlinkError, Subsystem,
    Transport, messages,
};

/// The number of attempts to read a dump that concurrent changes interrupt.
const DUMP_TRIES: usize = 10;
/// The size of a datagram: the kernel fills dumps in pages of up to 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// The number of attempts of a system call that a signal interrupts, or that reports lost answers.
const CALL_TRIES: usize = 100;

/// A netlink socket of this process's network namespace.
///
/// It never waits. The kernel processes a request within the call that sends it, and queues the
/// next part of a dump within the call that receives the previous part. So an answer that cannot be
/// received at once is lost.
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

    /// Creates a socket over a transport.
    #[must_use]
    pub fn over(transport: impl Transport + 'static) -> Self {
        Self {
            transport: Box::new(transport),
            buffer: vec![0; DATAGRAM].into(),
            question: Batch::default(),
            sequence: 1,
        }
    }

    /// Returns the port, which notifications of changes through this socket contain.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.transport.port()
    }

    /// Sends a batch in one system call and reads until the request at index `acknowledged` is
    /// answered.
    ///
    /// The kernel reports every failure, but success only for the acknowledged request. This must
    /// be the last request that the kernel answers (in nf_tables the one before the batch's end).
    /// All requests without an answer have then succeeded. `None` stands for an unknown result,
    /// because answers were lost or because the kernel aborted the batch before this request.
    ///
    /// The protocol determines the effect of a failure on the other requests: IPVS and routing
    /// continue, nf_tables reverts the whole batch.
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
            let Some(datagram) = self.receive(&mut losses)? else { return Ok(answers) };
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

    /// Sends one request and passes its answers to `take` until it is acknowledged.
    ///
    /// # Errors
    ///
    /// If the request is rejected or its answer is lost.
    pub fn request(
        &mut self,
        request: &'static str,
        kind: u16,
        fill: impl FnOnce(&mut Attributes<'_>),
        take: impl FnMut(Header, &[u8]),
    ) -> Result<(), KernelError> {
        let is_whole = self.ask(request, (kind, 0), fill, take)?;
        is_whole.then_some(()).ok_or(KernelError::Lost(request))
    }

    /// Sends a dump request and passes each answer to `take`, with the value built so far. A dump
    /// that concurrent changes interrupt is repeated and starts with a default value.
    ///
    /// # Errors
    ///
    /// If the request is rejected or its answer is lost.
    pub fn dump<T: Default>(
        &mut self,
        request: &'static str,
        kind: u16,
        fill: impl Fn(&mut Attributes<'_>),
        mut take: impl FnMut(&mut T, Header, &[u8]),
    ) -> Result<T, KernelError> {
        for _ in 0..DUMP_TRIES {
            let mut found = T::default();
            let is_whole = self.ask(request, (kind, NLM_F_DUMP), &fill, |header, payload| {
                take(&mut found, header, payload);
            });
            match is_whole {
                Ok(true) => return Ok(found),
                // The rest of a dump would block the next one (EBUSY).
                Ok(false) | Err(KernelError::Lost(_)) => {
                    while let Ok(Some(_)) = self.receive(&mut 0) {}
                }
                Err(error) => return Err(error),
            }
        }
        Err(KernelError::Lost(request))
    }

    /// Returns whether the answers are complete: none was lost, and no change came in between.
    fn ask(
        &mut self,
        request: &'static str,
        (kind, flags): (u16, u16),
        fill: impl FnOnce(&mut Attributes<'_>),
        mut take: impl FnMut(Header, &[u8]),
    ) -> Result<bool, KernelError> {
        let mut question = std::mem::take(&mut self.question);
        question.clear();
        question.push(kind, flags, fill);
        let sent = self.send(&mut question, 0);
        self.question = question;
        let sequence = sent?;
        let (mut losses, mut is_interrupted) = (0, false);
        while let Some(datagram) = self.receive(&mut losses)? {
            for (header, payload) in messages(datagram) {
                if header.sequence != sequence {
                    continue;
                }
                is_interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                if !matches!(header.kind, Header::DONE | Header::ERROR) {
                    take(header, payload);
                    continue;
                }
                return match outcome(header, payload) {
                    Ok(()) => Ok(losses == 0 && !is_interrupted),
                    Err(NetlinkError {
                        errno: Errno::INTR | Errno::AGAIN | Errno::BUSY, ..
                    }) => Ok(false),
                    Err(error) => Err(KernelError::refused(request, error)),
                };
            }
        }
        Err(KernelError::Lost(request))
    }

    /// Numbers the requests and sends them. Returns the number of the first, which is unused so
    /// far.
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

    /// Receives the next datagram, if any. Counts into `losses` how often the kernel reports that it
    /// has dropped answers: those it has queued before are still received.
    fn receive(&mut self, losses: &mut usize) -> Result<Option<&[u8]>, KernelError> {
        let failed = |errno: Errno| KernelError::socket("recv")(errno.into());
        let length = loop {
            match uninterrupted(|| self.transport.receive(&mut self.buffer)) {
                Ok(length) => break length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::NOBUFS) if *losses < CALL_TRIES => *losses += 1,
                Err(Errno::NOBUFS) => return Err(KernelError::Lost("netlink")),
                Err(errno) => return Err(failed(errno)),
            }
        };
        let datagram = self.buffer.get(..length).ok_or_else(|| failed(Errno::MSGSIZE))?;
        Ok(Some(datagram))
    }
}

/// Repeats a system call that a signal interrupts, up to a limit.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..CALL_TRIES {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
    call()
}
