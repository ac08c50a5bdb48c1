//! Drift: what another program does to the agent's objects in the kernel.

use fastrand::Rng;
use netlink_ipvs::{Socket, Subsystem};

use crate::context::{Failure, Step, TestContext};
use crate::lab::Host::N1;

/// `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK`; without attributes, of everything.
const DELETE_FLOWS: u16 = 1 << 8 | 2;

/// Harm by command line; `-` before what is not there each time.
const COMMANDS: [&str; 15] = [
    "ipvsadm -C",
    "ipvsadm -D -t 10.96.40.1:80",
    "ipvsadm -d -t 10.96.40.1:80 -r 10.244.1.11:8080",
    "ipvsadm -e -t 10.96.40.1:80 -r 10.244.1.11:8080 -m -w 0",
    "ipvsadm -a -t 10.96.40.1:80 -r 10.244.9.9:8080 -m",
    "ipvsadm -E -t 10.96.40.1:80 -s lc",
    "ipvsadm -A -t 10.96.99.99:80 -s rr",
    "nft delete table ip kube-ipvs",
    "nft delete table arp kube-ipvs",
    "nft flush set ip kube-ipvs pools",
    "nft flush chain ip kube-ipvs postrouting",
    "nft add element ip kube-ipvs refused { 192.168.50.1 . tcp . 8443 }",
    "ip route delete local 10.96.40.1 dev lo table local",
    "ip rule add not iif lo lookup 7575 pref 75 protocol 75",
    "ip link delete kube-ipvs0",
];

/// What is not ours, and has to be there in the end.
const FOREIGN: [(&str, &str); 3] = [
    ("nft add table inet soak-foreign", "nft list table inet soak-foreign"),
    ("ip route add 198.18.1.0/24 dev lo", "ip route get 198.18.1.1"),
    ("ip rule add from 198.18.2.0/24 lookup 77 pref 76", "ip rule show pref 76"),
];
/// And a virtual server, which `ipvsadm -C` ends like ours.
const FOREIGN_SERVER: &str = "-t 198.18.0.1:99";

/// Objects of another program.
pub(super) struct Foreign;

impl Foreign {
    /// Makes it.
    pub(super) fn new(t: &TestContext<'_>) -> Step<Self> {
        FOREIGN.iter().try_for_each(|(make, _)| run(t, make))?;
        run(t, &format!("ipvsadm -A {FOREIGN_SERVER} -s wlc"))?;
        Ok(Self)
    }

    /// It has to be there.
    pub(super) fn is_there(&self, t: &TestContext<'_>) -> Step {
        FOREIGN.iter().try_for_each(|(_, show)| run(t, show))?;
        run(t, &format!("ipvsadm -Ln {FOREIGN_SERVER}"))
    }

    /// Takes it away.
    pub(super) fn end(self, t: &TestContext<'_>) -> Step {
        run(t, "nft delete table inet soak-foreign")?;
        run(t, "ip route delete 198.18.1.0/24 dev lo")?;
        run(t, "ip rule delete pref 76")?;
        run(t, &format!("ipvsadm -D {FOREIGN_SERVER}"))
    }
}

/// Does some harm, and says which.
pub(super) fn strike(t: &TestContext<'_>, rng: &mut Rng) -> Step<&'static str> {
    let Some(command) = COMMANDS.get(rng.usize(..=COMMANDS.len())) else {
        t.host(N1)
            .inside(forget_flows)
            .map_err(|error| Failure::new("conntrack", "empty", error))?;
        return Ok("all of connection tracking deleted");
    };
    run(t, command)?;
    if *command == "ipvsadm -C" {
        run(t, &format!("ipvsadm -A {FOREIGN_SERVER} -s wlc"))?;
    }
    Ok(command)
}

fn forget_flows() -> Result<(), String> {
    let forget = |socket: &mut Socket| {
        let all = |message: &mut netlink_ipvs::Attributes<'_>| message.raw(&[0; 4]);
        socket.request("connection tracking", DELETE_FLOWS, all, |_, _| ())
    };
    let mut socket = Socket::open(Subsystem::Netfilter).map_err(|error| error.to_string())?;
    forget(&mut socket).map_err(|error| error.to_string())
}

fn run(t: &TestContext<'_>, command: &str) -> Step {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    Ok(t.host(N1).read(program, &words.collect::<Vec<_>>()).map(drop)?)
}
