//! The options of a Service: the one place that gives each its name, its values, its text and its
//! errors. Annotations and the configuration's `defaults` are read by the same table.

mod selector;

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use kube_ipvs_core::model::{
    AffinityPrefix, Control, FrontendKind, LocalityWeights, Scheduler, SchedulerFlags, cut,
};

use crate::duration::parse as duration;

pub use selector::label_selector;

/// The prefix of this program's annotations.
pub const PREFIX: &str = "kube-ipvs.io/";

/// The number of invalid options that are reported of a Service. An object of a megabyte could have
/// thousands.
const MOST_INVALID: usize = 5;
/// The longest text of an annotation in a message, in bytes.
const LONGEST: usize = 100;

/// An option.
pub struct ServiceOption {
    /// The name of the annotation after [`PREFIX`], and the key under `defaults`.
    pub name: &'static str,
    /// The values, as the documentation lists them.
    pub values: &'static str,
    /// What the option does, in one sentence.
    pub summary: &'static str,
    parse: Parse,
    /// Annotations of other programs that mean the same. The option's own annotation wins.
    aliases: &'static [&'static str],
}

type Parse = fn(&str, &mut Control) -> Result<(), String>;

/// All options.
pub const OPTIONS: [ServiceOption; 11] = [
    ServiceOption {
        name: "scheduler",
        values: "rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh",
        summary: "How IPVS selects an endpoint for a new connection.",
        parse: |text, control| set(&mut control.scheduler, parsed(text)),
        aliases: &["kube-router.io/service.scheduler"],
    },
    ServiceOption {
        name: "scheduler-flags",
        values: "a list of sh-port, sh-fallback, mh-port, mh-fallback; or none",
        summary: "Flags of the schedulers sh and mh.",
        parse: |text, control| set(&mut control.scheduler_flags, flags(text)),
        aliases: &["kube-router.io/service.schedflags"],
    },
    ServiceOption {
        name: "locality-weights",
        values: "node=N,zone=N,other=N, each from 1 to 1000; a part that is absent is 1",
        summary: "Multiplies the weight of endpoints on this node, in this zone, and elsewhere.",
        parse: |text, control| set(&mut control.locality_weights, locality_weights(text)),
        aliases: &[],
    },
    ServiceOption {
        name: "slow-start",
        values: "a duration from 1s to 1h; 0s for none",
        summary: "Lets the weight of a new endpoint grow over a time.",
        parse: |text, control| set(&mut control.slow_start, time(text, &[Duration::ZERO], HOUR)),
        aliases: &[],
    },
    ServiceOption {
        name: "max-connections",
        values: "a number from 1",
        summary: "Limits the connections of each endpoint, including ended ones that IPVS still \
                  remembers.",
        parse: |text, control| set(&mut control.max_connections, number(text)),
        aliases: &[],
    },
    ServiceOption {
        name: "drain",
        values: "a duration; 0s ends connections at once; unlimited",
        summary: "How long established connections to a removed endpoint may continue.",
        parse: |text, control| set(&mut control.drain, drain(text)),
        aliases: &[],
    },
    ServiceOption {
        name: "one-packet",
        values: "true or false",
        summary: "Selects an endpoint for each UDP datagram.",
        parse: |text, control| set(&mut control.one_packet, truth(text)),
        aliases: &[],
    },
    ServiceOption {
        name: "affinity-prefix",
        values: "/N for IPv4 or IPv6, or both such as /24,/56",
        summary: "Treats all clients of a network as one client of sessionAffinity.",
        parse: |text, control| set(&mut control.affinity_prefix, affinity_prefix(text)),
        aliases: &[],
    },
    ServiceOption {
        name: "eject",
        values: "a duration from 1s to 1h; off",
        summary: "Gives no new connections to an endpoint that does not answer for this time.",
        parse: |text, control| set(&mut control.eject, eject(text)),
        aliases: &[],
    },
    ServiceOption {
        name: "front-ends",
        values: "a list of ClusterIP, NodePort, LoadBalancer, ExternalIP",
        summary: "The kinds of front ends that are served.",
        parse: |text, control| set(&mut control.frontends, frontends(text)),
        aliases: &["service.cilium.io/type"],
    },
    ServiceOption {
        name: "nodes",
        values: "a label selector",
        summary: "The nodes that serve the front ends other than ClusterIPs.",
        parse: |text, control| set(&mut control.nodes, label_selector(text)),
        aliases: &["service.cilium.io/node-selector"],
    },
];

/// The annotation of an EndpointSlice with the weight of its endpoints.
pub const SLICE_WEIGHT: &str = "kube-ipvs.io/weight";
/// Cilium's annotation of the same meaning.
pub const SLICE_WEIGHT_ALIAS: &str = "service.cilium.io/weight";

/// kube-router's annotation of a Service without front ends at load balancers, if it is true.
const SKIP_LOAD_BALANCER: &str = "kube-router.io/service.skiplbips";

const HOUR: Duration = Duration::from_secs(3600);
const ALL_KINDS: [FrontendKind; 4] = [
    FrontendKind::ClusterIp,
    FrontendKind::NodePort,
    FrontendKind::LoadBalancer,
    FrontendKind::ExternalIp,
];

/// Reads the options among a Service's annotations; `None` without any.
#[must_use]
pub fn read<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Box<Control>> {
    let (mut own, mut others) = (Control::default(), Control::default());
    let mut invalid = Vec::new();
    for (key, value) in annotations {
        let result = match key.strip_prefix(PREFIX) {
            Some(name) => apply(name, value, &mut own),
            None => match alias(key) {
                Some(parse) => parse(value.trim(), &mut others),
                None => continue,
            },
        };
        if let Err(reason) = result {
            invalid.push(format!("annotation {}: {reason}", cut(key, LONGEST)));
        }
    }
    let more = invalid.len().saturating_sub(MOST_INVALID);
    invalid.truncate(MOST_INVALID);
    invalid.extend((more > 0).then(|| format!("{more} more annotations are ignored")));
    own.invalid = invalid.into();
    let control = Control::over(Some(&own), &others).into_owned();
    (control != Control::default()).then(|| control.into())
}

/// Sets an option by its name.
///
/// # Errors
///
/// Why the name or the value is invalid, and what to write instead.
pub fn apply(name: &str, value: &str, control: &mut Control) -> Result<(), String> {
    match OPTIONS.iter().find(|option| option.name == name) {
        Some(option) => (option.parse)(value.trim(), control),
        None => {
            let names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
            Err(format!("unknown option; the options of a Service are {}", names.join(", ")))
        }
    }
}

/// Reads the weight of a slice's endpoints.
///
/// # Errors
///
/// Why the value is invalid.
pub fn slice_weight(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| invalid(text, "a number from 0 to 65535"))
}

fn alias(key: &str) -> Option<Parse> {
    if key == SKIP_LOAD_BALANCER {
        return Some(skip_load_balancer);
    }
    OPTIONS.iter().find(|option| option.aliases.contains(&key)).map(|option| option.parse)
}

fn set<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *place = Some(value?);
    Ok(())
}

fn skip_load_balancer(text: &str, control: &mut Control) -> Result<(), String> {
    if truth(text)? {
        let others = ALL_KINDS.into_iter().filter(|kind| *kind != FrontendKind::LoadBalancer);
        control.frontends = Some(others.collect());
    }
    Ok(())
}

fn invalid(text: &str, expected: &str) -> String {
    format!("{:?} is not {expected}", cut(text, LONGEST))
}

/// Refuses a value that is longer than any that means something.
fn short(text: &str) -> Result<&str, String> {
    let is_short = text.len() <= LONGEST;
    is_short.then_some(text).ok_or_else(|| invalid(text, &format!("of {LONGEST} bytes at most")))
}

fn parsed<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    short(text)?.parse().map_err(|error: T::Err| error.to_string())
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

fn truth(text: &str) -> Result<bool, String> {
    parsed(text).map_err(|_| invalid(text, "true or false"))
}

/// IPVS and `ipvsadm` know no limit beyond that of an `int`.
fn number(text: &str) -> Result<NonZeroU32, String> {
    let number = parsed(text).ok().filter(|it: &NonZeroU32| i32::try_from(it.get()).is_ok());
    number.ok_or_else(|| invalid(text, "a number from 1 to 2147483647"))
}

fn time(text: &str, special: &[Duration], most: Duration) -> Result<Duration, String> {
    let time = duration(short(text)?)?;
    if special.contains(&time) || (Duration::from_secs(1)..=most).contains(&time) {
        Ok(time)
    } else {
        Err(invalid(text, &format!("a duration from 1s to {}h", most.as_secs() / 3600)))
    }
}

fn drain(text: &str) -> Result<Duration, String> {
    match text {
        "unlimited" => Ok(Duration::MAX),
        _ => duration(short(text)?),
    }
}

fn eject(text: &str) -> Result<Duration, String> {
    match text {
        // YAML reads `off` as false.
        "off" | "false" => Ok(Duration::ZERO),
        _ => time(text, &[], HOUR),
    }
}

fn flags(text: &str) -> Result<SchedulerFlags, String> {
    let mut flags = SchedulerFlags::default();
    for name in list(text).filter(|name| *name != "none") {
        let (scheduler, place) = match name {
            "sh-port" => (Some(Scheduler::Sh), &mut flags.port),
            "mh-port" => (Some(Scheduler::Mh), &mut flags.port),
            "sh-fallback" => (Some(Scheduler::Sh), &mut flags.fallback),
            "mh-fallback" => (Some(Scheduler::Mh), &mut flags.fallback),
            // Names of ipvsadm and kube-router for the bits themselves.
            "flag-1" => (None, &mut flags.fallback),
            "flag-2" => (None, &mut flags.port),
            _ => return Err(invalid(name, "sh-port, sh-fallback, mh-port, mh-fallback or none")),
        };
        *place = true;
        if flags.scheduler.is_some() && scheduler.is_some() && flags.scheduler != scheduler {
            return Err("flags of sh and mh exclude each other".to_owned());
        }
        flags.scheduler = flags.scheduler.or(scheduler);
    }
    Ok(flags)
}

fn locality_weights(text: &str) -> Result<LocalityWeights, String> {
    let mut weights = LocalityWeights { node: 1, zone: 1, other: 1 };
    for part in list(text) {
        let (name, number) = part.split_once('=').unwrap_or((part, ""));
        let place = match name.trim() {
            "node" => &mut weights.node,
            "zone" => &mut weights.zone,
            "other" => &mut weights.other,
            _ => return Err(invalid(part, "node=N, zone=N or other=N")),
        };
        let number = number.trim().parse().ok().filter(|number| (1..=1000).contains(number));
        *place = number.ok_or_else(|| invalid(part, "a weight from 1 to 1000, as in node=16"))?;
    }
    Ok(weights)
}

fn affinity_prefix(text: &str) -> Result<AffinityPrefix, String> {
    let expected = "a prefix length such as /24, or one for IPv4 and one for IPv6 such as /24,/56";
    let error = || invalid(text, expected);
    let mut prefix = AffinityPrefix { v4: 32, v6: 128 };
    let lengths: Option<Vec<u8>> =
        list(text).map(|length| length.strip_prefix('/')?.parse().ok()).collect();
    match lengths.as_deref() {
        Some([v4 @ 1..=32]) => prefix.v4 = *v4,
        Some([v6 @ 33..=128]) => prefix.v6 = *v6,
        Some([v4 @ 1..=32, v6 @ 1..=128]) => prefix = AffinityPrefix { v4: *v4, v6: *v6 },
        _ => return Err(error()),
    }
    Ok(prefix)
}

fn frontends(text: &str) -> Result<Box<[FrontendKind]>, String> {
    let kind = |name: &str| {
        let kind = ALL_KINDS.into_iter().find(|kind| kind.to_string() == name);
        kind.ok_or_else(|| invalid(name, "ClusterIP, NodePort, LoadBalancer or ExternalIP"))
    };
    let mut kinds = list(text).map(kind).collect::<Result<Vec<_>, _>>()?;
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds.into())
}

#[cfg(test)]
mod tests;
