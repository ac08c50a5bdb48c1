//! Checks of the kernel version, the capabilities and IPVS.

use std::fs;

use kube_ipvs_core::model::Family;
use netlink_ipvs::KernelError;

use super::{Finding, Subject};
use crate::kernel::ipvs::Ipvs;
use crate::kernel::route::{WITHOUT_IPV6, has_ipv6};
use crate::kernel::{release, version};

/// The first version that handles a reused source port without delay.
const GOOD_VERSION: (u32, u32) = (5, 9);
/// The bit of CAP_NET_ADMIN in a capability set.
const CAP_NET_ADMIN: u32 = 12;

pub(super) fn kernel(_: &Subject) -> Finding {
    judge_release(&release())
}

fn judge_release(release: &str) -> Finding {
    let (major, minor) = GOOD_VERSION;
    match version(release) {
        Some(version) if version >= GOOD_VERSION => {
            Finding::ok(format!("{release} (>= {major}.{minor})"))
        }
        Some(_) => Finding::warn(
            format!("{release} (< {major}.{minor})"),
            [format!(
                "a client that reuses a source port may wait a second: run a kernel >= {major}.{minor}"
            )],
        ),
        None => Finding::warn(
            format!("{release}: not a known form of version"),
            [format!("check that it is at least {major}.{minor}")],
        ),
    }
}

pub(super) fn ipv6(subject: &Subject) -> Finding {
    judge_ipv6(has_ipv6(), subject)
}

fn judge_ipv6(has_ipv6: bool, subject: &Subject) -> Finding {
    if has_ipv6 {
        Finding::ok("in the kernel")
    } else if subject.families().contains(&Family::V6) {
        Finding::warn(
            WITHOUT_IPV6,
            ["boot without ipv6.disable=1 where Services have IPv6 addresses; \
              net.ipv6.conf.all.disable_ipv6=1 keeps the node's interfaces without"],
        )
    } else {
        Finding::ok("not in the kernel, and no Service has an IPv6 address")
    }
}

pub(super) fn capabilities(_: &Subject) -> Finding {
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => judge_capabilities(&status),
        Err(error) => Finding::unknown(format!("/proc/self/status: {error}")),
    }
}

fn judge_capabilities(status: &str) -> Finding {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    match effective {
        Some(set) if set & (1 << CAP_NET_ADMIN) != 0 => Finding::ok("CAP_NET_ADMIN"),
        Some(_) => Finding::fail(
            "CAP_NET_ADMIN is missing",
            ["run as root, in a container with capability NET_ADMIN and hostNetwork: true"],
        ),
        None => Finding::unknown("/proc/self/status has no CapEff"),
    }
}

pub(super) fn ipvs(_: &Subject) -> Finding {
    match Ipvs::open().and_then(|mut ipvs| ipvs.socket.info()) {
        Ok(info) => {
            let [_, major, minor, patch] = info.version.to_be_bytes();
            let buckets = info.connection_table_size;
            Finding::ok(format!("version {major}.{minor}.{patch}, {buckets} connection buckets"))
        }
        Err(error) => {
            let mend = match &error {
                KernelError::NotPermitted(_) => "run with CAP_NET_ADMIN, as above".to_owned(),
                KernelError::NoModule { module, .. } => {
                    format!(
                        "modprobe {module}  # on the node; the kernel may lack the module's package"
                    )
                }
                KernelError::Socket { .. }
                | KernelError::TooOld { .. }
                | KernelError::Refused { .. }
                | KernelError::Lost(_) => "see the kernel log: dmesg | grep IPVS".to_owned(),
            };
            Finding::fail(error.to_string(), [mend])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        for (release, verdict) in [
            ("6.1.0-56-amd64", CheckVerdict::Ok),
            ("5.10.0", CheckVerdict::Ok),
            ("5.9-rc1", CheckVerdict::Ok),
            ("5.4.0-1-generic", CheckVerdict::Warn),
            ("4.19.0", CheckVerdict::Warn),
            ("unknown", CheckVerdict::Warn),
        ] {
            assert_eq!(judge_release(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn a_kernel_without_ipv6_is_reported_for_dual_stack_services() {
        let ranges = |ranges: &[&str]| Subject {
            service_ranges: ranges.iter().map(|it| it.parse().expect("a range")).collect(),
            ..Subject::default()
        };
        let dual = ranges(&["10.96.0.0/12", "fd00:96::/108"]);
        assert_eq!(judge_ipv6(true, &dual).verdict, CheckVerdict::Ok);
        assert_eq!(judge_ipv6(false, &dual).verdict, CheckVerdict::Warn);
        assert_eq!(judge_ipv6(false, &ranges(&[])).verdict, CheckVerdict::Warn);
        assert_eq!(judge_ipv6(false, &ranges(&["10.96.0.0/12"])).verdict, CheckVerdict::Ok);
    }

    #[test]
    fn the_capability_is_bit_12() {
        assert_eq!(judge_capabilities("CapEff:\t0000000000001000\n").verdict, CheckVerdict::Ok);
        assert_eq!(judge_capabilities("CapEff:\t0000000000000fff\n").verdict, CheckVerdict::Fail);
        assert_eq!(judge_capabilities("Name:\tx\n").verdict, CheckVerdict::Warn);
    }
}
