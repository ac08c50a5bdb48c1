//! The faults of a test, and the requests that they happen to.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use netlink_ipvs::NetlinkError;
use rustix::io::Errno;

use super::cluster::Target;
use super::kind::Kind;

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// It is answered with an error and not done; a transaction as a whole.
    Refused(Errno),
    /// It is done, and answered with an error all the same.
    Belied(Errno),
    /// The system call that was to send it fails.
    Unsent(Errno),
    /// The system call that was to receive its answers fails, the first time.
    Unheard(Errno),
    /// The queue for answers overflows: this one's and those after it are dropped.
    Overrun,
    /// Its answer and those after it never come.
    Unanswered,
    /// The kernel reads neither it nor what comes after it in the same send.
    Cut,
    /// Each part of its answer says that the table was changed meanwhile (`NLM_F_DUMP_INTR`).
    Flagged,
    /// A part of its answer is missing, without a word.
    Gap,
    /// A part of its answer comes twice.
    Doubled,
}

/// A fault.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) how: How,
    /// How often it is still to happen.
    pub(super) times: usize,
    /// How often it has happened.
    pub(super) happened: usize,
    /// It happens to requests that name one of these addresses, or to all if there are none.
    pub(super) about: Vec<Vec<u8>>,
}

impl Fault {
    /// A fault that does not end, of all requests.
    pub(super) fn lasting(kind: Kind, how: How) -> Self {
        Self { kind, how, times: usize::MAX, happened: 0, about: Vec::new() }
    }

    /// Only of a target's requests.
    pub(super) fn of(self, target: Target) -> Self {
        Self { about: target.names(), ..self }
    }

    /// Returns whether an answer says that there was nothing to do. The engine cannot detect such a
    /// lie, which the kernel does not tell.
    pub(super) fn is_plausible_lie(&self) -> bool {
        let (How::Refused(errno) | How::Belied(errno)) = self.how else { return false };
        match self.kind {
            Kind::DeleteService => errno == Errno::SRCH,
            Kind::DeleteDest => matches!(errno, Errno::SRCH | Errno::NOENT),
            Kind::DeleteElement => errno == Errno::NOENT,
            Kind::DeleteRoute => {
                matches!(errno, Errno::SRCH | Errno::AFNOSUPPORT | Errno::OPNOTSUPP)
            }
            Kind::DeleteRule => {
                use Errno as E;
                matches!(
                    errno,
                    E::NOENT | E::SRCH | E::NODEV | E::ADDRNOTAVAIL | E::AFNOSUPPORT | E::OPNOTSUPP
                )
            }
            _ => false,
        }
    }

    /// Only so often.
    pub(super) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, errno) = match self {
            Self::Refused(errno) => ("refused", *errno),
            Self::Belied(errno) => ("done and belied", *errno),
            Self::Unsent(errno) => ("not sent", *errno),
            Self::Unheard(errno) => ("not heard", *errno),
            how => return write!(f, "{how:?}"),
        };
        write!(f, "{what}: {}", NetlinkError { errno, text: None })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.how)?;
        match self.times {
            usize::MAX => f.write_str(" for good")?,
            times => write!(f, " {times} times")?,
        }
        match self.about.first() {
            None => f.write_str(", of all Services"),
            Some(address) => write!(f, ", of {address:?}"),
        }
    }
}

/// Changes by another program between two parts of a dump.
pub(super) type Interference = Box<dyn FnMut() + Send>;

/// The faults of the sockets that share it.
#[derive(Default)]
pub(super) struct Script {
    pub(super) faults: Vec<Fault>,
    /// By how much the number of the IPVS family is another than the kernel's.
    pub(super) family_shift: u16,
    /// Runs between two parts of a dump.
    pub(super) interference: Option<Interference>,
}

impl Script {
    /// Returns what happens to a request, if it has a fault.
    pub(super) fn take(&mut self, kind: Kind, payload: &[u8]) -> Option<How> {
        let names = |address: &Vec<u8>| payload.windows(address.len()).any(|part| part == *address);
        let fault = self.faults.iter_mut().find(|fault| {
            fault.kind == kind
                && fault.times > 0
                && (fault.about.is_empty() || fault.about.iter().any(names))
        })?;
        if fault.times != usize::MAX {
            fault.times -= 1;
        }
        fault.happened += 1;
        Some(fault.how)
    }
}

/// A script that a test writes and its sockets follow.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Script>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
