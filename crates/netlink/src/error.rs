//! Why the kernel cannot be spoken to, and what to do about it.

use std::io;

use rustix::io::Errno;

use super::NetlinkError;

/// Why the kernel cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A system call on the socket failed.
    #[error("netlink {call}: {source}")]
    Socket {
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The process may not.
    #[error("{0}: not permitted; run with CAP_NET_ADMIN in the node's network namespace")]
    NotPermitted(&'static str),
    /// The kernel has no such subsystem, nor a module that could be loaded for it.
    #[error("the kernel does not know {subsystem}; on the node run `modprobe {module}`")]
    NoModule {
        /// What is missing.
        subsystem: &'static str,
        /// The module that brings it.
        module: &'static str,
    },
    /// The kernel refused a request.
    #[error("{request}: {error}")]
    Refused {
        /// The request.
        request: &'static str,
        /// The kernel's answer.
        error: NetlinkError,
    },
    /// The kernel is too old for a feature.
    #[error(
        "{feature} needs Linux {major}.{minor} or newer, and this is {release}: choose another"
    )]
    TooOld {
        /// The feature.
        feature: &'static str,
        /// Major number of the first version that will do.
        major: u32,
        /// Its minor number.
        minor: u32,
        /// This kernel's release.
        release: String,
    },
    /// The kernel's answer did not fit its queue, so that nobody knows what has happened.
    #[error("{0}: the kernel's answer was lost; what it holds must be read again")]
    Lost(&'static str),
}

impl KernelError {
    /// The error of a failed system call.
    pub fn socket(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Socket { call, source }
    }

    /// The error of a request that the kernel refused.
    #[must_use]
    pub fn refused(request: &'static str, error: NetlinkError) -> Self {
        match error.errno {
            Errno::PERM | Errno::ACCESS => Self::NotPermitted(request),
            _ => Self::Refused { request, error },
        }
    }

    /// Whether the error concerns only the requested object, so that other requests may succeed.
    #[must_use]
    pub fn is_of_one_object(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Lost(_))
    }

    /// Whether the kernel has certainly done nothing.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Socket { .. } | Self::Lost(_) => false,
            Self::NotPermitted(_)
            | Self::NoModule { .. }
            | Self::TooOld { .. }
            | Self::Refused { .. } => true,
        }
    }
}

/// The operating system's words for an error number.
pub(super) fn meaning(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    text.split_once(" (os error").map_or(text.clone(), |(meaning, _)| meaning.to_owned())
}

/// The symbol of an error number that netlink families return.
pub(super) fn errno_name(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::SRCH => "ESRCH",
        Errno::INTR => "EINTR",
        Errno::IO => "EIO",
        Errno::NXIO => "ENXIO",
        Errno::AGAIN => "EAGAIN",
        Errno::TOOBIG => "E2BIG",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::INVAL => "EINVAL",
        Errno::NFILE => "ENFILE",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::MLINK => "EMLINK",
        Errno::RANGE => "ERANGE",
        Errno::LOOP => "ELOOP",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::MSGSIZE => "EMSGSIZE",
        Errno::PROTONOSUPPORT => "EPROTONOSUPPORT",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::AFNOSUPPORT => "EAFNOSUPPORT",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::NETDOWN => "ENETDOWN",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::NOBUFS => "ENOBUFS",
        _ => return None,
    })
}
