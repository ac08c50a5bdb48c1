//! kube-proxy's flags that mean nothing here: accepted, so that an existing command line works,
//! with one warning each.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A value.
    Value,
    /// `true`, `false` or nothing.
    Truth,
}

use Takes::{Truth, Value};

/// Flags of kube-proxy's other modes, of its client and of its log.
const FLAGS: [(&str, Takes); 34] = [
    ("add-dir-header", Truth),
    ("alsologtostderr", Truth),
    ("boot-id-file", Value),
    ("config-sync-period", Value),
    ("feature-gates", Value),
    ("healthz-port", Value),
    ("iptables-localhost-nodeports", Truth),
    ("iptables-masquerade-bit", Value),
    ("iptables-min-sync-period", Value),
    ("iptables-sync-period", Value),
    ("kube-api-burst", Value),
    ("kube-api-content-type", Value),
    ("kube-api-qps", Value),
    ("log-backtrace-at", Value),
    ("log-dir", Value),
    ("log-file", Value),
    ("log-file-max-size", Value),
    ("log-flush-frequency", Value),
    ("log-json-info-buffer-size", Value),
    ("log-json-split-stream", Truth),
    ("log-text-info-buffer-size", Value),
    ("log-text-split-stream", Truth),
    ("logtostderr", Truth),
    ("machine-id-file", Value),
    ("metrics-port", Value),
    ("one-output", Truth),
    ("profiling", Truth),
    ("proxy-port-range", Value),
    ("show-hidden-metrics-for-version", Value),
    ("skip-headers", Truth),
    ("skip-log-headers", Truth),
    ("stderrthreshold", Value),
    ("udp-timeout", Value),
    ("vmodule", Value),
];

/// Those of kube-proxy's flags that were given and mean nothing here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IgnoredFlags {
    given: Vec<&'static str>,
}

impl IgnoredFlags {
    /// One warning for each.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.given.iter().map(|name| match *name {
            "healthz-port" | "metrics-port" => {
                let address = name.replace("port", "bind-address");
                format!("--{name} is ignored: use --{address}")
            }
            _ => format!("--{name} has no meaning in this proxy: ignored"),
        })
    }
}

impl Args for IgnoredFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.map(|(name, takes)| {
            // Both may be repeated, as with kube-proxy.
            let flag = Arg::new(name).long(name).hide(true).global(true).action(ArgAction::Append);
            match takes {
                Value => flag.num_args(1).allow_hyphen_values(true),
                Truth => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for IgnoredFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        Ok(Self { given: FLAGS.iter().map(|(name, _)| *name).filter(is_given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
