//! kube-proxy's objects in the kernel, and their removal over netlink.
//!
//! kube-proxy leaves all of its objects when it stops. Its virtual servers at the front ends of a
//! Service become ours with the agent's first sync. The operator decides when the others go. Their
//! order keeps every connection working:
//!
//! 1. virtual servers that are not ours, such as node ports at addresses without node ports now:
//!    they become ours, and drain;
//! 2. the addresses on its device, so that the node's own connections carry the node's address
//!    again: until then kube-proxy's rules masquerade them. The device stays, as ours;
//! 3. its rules, in one transaction; established connections need none of them;
//! 4. its sets, which the rules referred to.

mod legacy;
mod names;
mod rules;
mod sets;

use std::fmt;
use std::net::IpAddr;

use kube_ipvs_core::model::DEVICE;
use kube_ipvs_core::plan::{self, Effect, ForeignClaims, Observed, Operation};
use netlink_ipvs::{KernelError, Socket};

use crate::kernel::Kernel;
use crate::kernel::nft::list::{ListedChain, ListedRule};
use crate::kernel::route::links;

pub(crate) use legacy::looks as legacy_looks;
pub(crate) use names::is_trace;

/// The number of attempts to remove rules that other programs change meanwhile.
const TRIES: usize = 5;

/// A change of the kernel.
#[derive(Debug)]
pub struct Done {
    pub effect: Effect,
    /// The line of the tool that would make it.
    pub command: String,
}

impl Done {
    /// A removal by this command.
    pub(crate) fn removal(command: impl fmt::Display) -> Self {
        Self { effect: Effect::Removes, command: command.to_string() }
    }
}

impl From<&Operation> for Done {
    fn from(operation: &Operation) -> Self {
        Self { effect: operation.effect(), command: operation.to_string() }
    }
}

impl fmt::Display for Done {
    /// Formats the line after `+`, `~` or `-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.effect, self.command)
    }
}

/// The result of removing objects from the kernel.
#[derive(Debug, Default)]
pub struct Removal {
    pub done: Vec<Done>,
    /// The reasons for which objects still exist, with what to do.
    pub failures: Vec<String>,
    /// Rules that netlink does not show, each with the command that removes them.
    pub by_hand: Vec<String>,
}

impl Removal {
    fn note(&mut self, done: Done, outcome: Result<(), impl fmt::Display>) {
        match outcome {
            Ok(()) => self.done.push(done),
            Err(error) => self.failures.push(error.to_string()),
        }
    }
}

/// Reads a payload as each kind of answer that is searched for kube-proxy's objects, and returns the
/// number of objects that it names. Public for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn decode(payload: &[u8]) -> usize {
    let chains = ListedChain::decode(payload).map_or(0, |chain| {
        let _ = (is_trace(&chain), names::is_chain(&chain), chain.to_string());
        1
    });
    chains
        + ListedRule::decode(payload).map_or(0, |rule| rule.jumps().count())
        + sets::decode(payload).len()
}

/// Returns kube-proxy's part of IPVS, by its device and its sets.
pub fn claims() -> Result<ForeignClaims, KernelError> {
    let device = links::dummy(DEVICE)?;
    let mut claims = ForeignClaims::default();
    for (on, ip) in links::addresses()? {
        if Some(on) == device {
            claims.addresses.insert(ip);
        } else if !IpAddr::is_loopback(&ip) {
            claims.node_addresses.insert(ip);
        }
    }
    claims.node_ports.extend(sets::node_ports(&mut rules::open()?)?);
    Ok(claims)
}

/// Removes what kube-proxy has left. The agent's own objects stay. A dry run changes nothing, and reports
/// what would be removed as done.
///
/// # Errors
///
/// If the kernel cannot be read. The value reports objects that cannot be removed.
pub fn remove(kernel: &mut Kernel, is_dry_run: bool) -> Result<Removal, KernelError> {
    let observed = Observed { claims: claims()?, ..kernel.observe()? };
    let mut removal = Removal::default();
    let is_orphan = plan::is_orphan(&observed);
    for (address, why) in observed.unread.iter().filter(|(address, _)| is_orphan(address)) {
        removal.failures.push(again(&plan::cannot_be_read(address, why)));
    }
    let orphans = plan::orphans(&observed);
    let outcomes = if is_dry_run { vec![Ok(()); orphans.len()] } else { kernel.apply(&orphans) };
    for (orphan, outcome) in orphans.iter().zip(outcomes) {
        let outcome = outcome.map_err(|failure| again(&failure.message));
        removal.note(orphan.into(), outcome);
    }
    if let Some(device) = links::dummy(DEVICE)? {
        let addresses: Vec<_> = observed.claims.addresses.iter().copied().collect();
        if !observed.has_tables() {
            let outcome = if is_dry_run { Ok(()) } else { links::delete(device) };
            removal.note(Done::removal(format_args!("ip link delete {DEVICE}")), outcome);
        } else if !addresses.is_empty() {
            let done = Done::removal(format_args!("ip address flush dev {DEVICE}"));
            let outcome = if is_dry_run { Ok(()) } else { links::take(device, &addresses) };
            removal.note(done, outcome);
        }
    }
    let mut socket = rules::open()?;
    remove_rules(&mut socket, &mut removal, is_dry_run)?;
    let sets = match is_dry_run {
        true => sets::present(&mut socket)?.into_iter().map(|name| (name, Ok(()))).collect(),
        false => sets::destroy(&mut socket),
    };
    for (name, outcome) in sets {
        removal.note(Done::removal(format_args!("ipset destroy {name}")), outcome);
    }
    removal.by_hand = legacy::advice();
    Ok(removal)
}

fn again(failure: &str) -> String {
    format!("{failure}; run `kube-ipvs cleanup --kube-proxy` again")
}

fn remove_rules(
    socket: &mut Socket,
    removal: &mut Removal,
    is_dry_run: bool,
) -> Result<(), KernelError> {
    for tries_left in (0..TRIES).rev() {
        let rules = rules::Rules::read(socket)?;
        if rules.is_empty() {
            return Ok(());
        }
        match if is_dry_run { Ok(()) } else { rules.remove(socket) } {
            Ok(()) => {
                removal.done.extend(rules.lines().map(Done::removal));
                return Ok(());
            }
            // Another program has changed the tables meanwhile.
            Err(_) if tries_left > 0 => {}
            Err(error) => removal.failures.push(error.to_string()),
        }
    }
    Ok(())
}
