//! Messages and remedies for failed operations on nf_tables.

use kube_ipvs_core::model::Element;
use kube_ipvs_core::plan::{Failure, FailureKind, FilterOperation};
use rustix::io::Errno;

use super::transaction::FailureCause;

pub(super) fn failure(operation: FilterOperation, cause: &FailureCause) -> Failure {
    let (kind, what) = match cause {
        FailureCause::Refused(error) => {
            let (kind, meaning) = meaning(&operation, error.errno);
            (kind, format!("{meaning}: {error}"))
        }
        FailureCause::Unknown(why) => (FailureKind::Unknown, why.clone()),
    };
    Failure { kind, message: format!("{operation}: {what}") }
}

fn meaning(operation: &FilterOperation, errno: Errno) -> (FailureKind, &'static str) {
    use FailureKind::{Drift, Refused};
    use FilterOperation::{Add, CreateTables};
    match (operation, errno) {
        (Add(Element::OffloadLink(_)), Errno::NOENT) => {
            (Drift, "the link or its flowtable is gone")
        }
        (Add(_), Errno::EXIST) => (Drift, "something else is in its place"),
        (Add(_), Errno::NOENT) => (Drift, "its table or set is gone"),
        (CreateTables, Errno::NOENT | Errno::OPNOTSUPP) => (
            Refused,
            "the kernel lacks part of nf_tables; on the node run `modprobe -a nft_chain_nat nft_ct \
             nft_fib_ipv4 nft_fib_ipv6 nft_masq nft_nat nft_reject_ipv4 nft_reject_ipv6 nft_socket`, \
             and for carry offload `modprobe -a nf_flow_table_inet nft_flow_offload nft_numgen`",
        ),
        (_, Errno::NOENT | Errno::EXIST | Errno::BUSY) => (Drift, "the tables were changed"),
        (_, Errno::AGAIN | Errno::INTR | Errno::RESTART) => {
            (Refused, "others change nf_tables all the time")
        }
        (_, Errno::PERM | Errno::ACCESS) => (Refused, "CAP_NET_ADMIN is missing"),
        (_, Errno::NOMEM) => (Refused, "the kernel is out of memory"),
        _ => (Refused, "the kernel refuses it"),
    }
}
