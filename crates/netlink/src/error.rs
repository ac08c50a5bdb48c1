//! Errors in the communication with the kernel, and their remedies.

use std::io;

use rustix::io::Errno;

use super::NetlinkError;

/// An error in the communication with the kernel.
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
    /// The process lacks a privilege.
    #[error("{0}: not permitted; run with CAP_NET_ADMIN in the node's network namespace")]
    NotPermitted(&'static str),
    /// The kernel has no such subsystem, and no module that it could load for it.
    #[error("the kernel does not know {subsystem}; on the node run `modprobe {module}`")]
    NoModule {
        /// The missing subsystem.
        subsystem: &'static str,
        /// The module that provides it.
        module: &'static str,
    },
    /// The kernel rejected a request.
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
        /// The major number of the first version with the feature.
        major: u32,
        /// The minor number of that version.
        minor: u32,
        /// The release of this kernel.
        release: String,
    },
    /// The answer did not fit the socket's queue, so the result is not known.
    #[error("{0}: the kernel's answer was lost; its state must be read again")]
    Lost(&'static str),
}

impl KernelError {
    /// Creates the error of a failed system call.
    pub fn socket(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Socket { call, source }
    }

    /// Creates the error of a rejected request.
    #[must_use]
    pub fn refused(request: &'static str, error: NetlinkError) -> Self {
        match error.errno {
            Errno::PERM | Errno::ACCESS => Self::NotPermitted(request),
            _ => Self::Refused { request, error },
        }
    }

    /// Returns the number with which the kernel rejected the request; `None` for other errors.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { error, .. } => Some(error.errno),
            _ => None,
        }
    }

    /// Returns whether the error concerns only the requested object, so that other requests may
    /// succeed.
    #[must_use]
    pub fn is_of_one_object(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Lost(_))
    }

    /// Returns whether the kernel has certainly done nothing.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Socket { .. } | Self::Lost(_))
    }
}

/// Returns the operating system's message for an error number.
pub(super) fn meaning(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    text.split_once(" (os error").map_or(text.clone(), |(meaning, _)| meaning.to_owned())
}

/// Returns the symbol of an error number that netlink families use.
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
