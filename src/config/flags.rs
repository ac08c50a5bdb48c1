//! The flags that every command shares, and kube-proxy's own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, StringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum};
use serde_json::Value;

use super::ignored::{self, IgnoredNames};
use super::options::{self, Form, Opt};
use super::read;

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

const PROXY_HEADING: &str = "kube-proxy's flags";

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Inputs")]
pub struct SharedFlags {
    /// A KubeProxyConfiguration, as kubeadm writes it; a second document of kind
    /// KubeIpvsConfiguration may follow in the same file
    #[arg(long, value_name = "FILE", value_parser = path(), global = true)]
    pub config: Option<PathBuf>,
    /// Take objects from the .yaml, .yml and .json files under DIR instead of an API server
    #[arg(long, value_name = "DIR", value_parser = path(), global = true)]
    pub manifests: Option<PathBuf>,
    /// This node's name [default: $NODE_NAME, then the host name in lower case]
    #[arg(long, visible_alias = "hostname-override", value_name = "NAME", global = true)]
    pub node_name: Option<String>,
    /// The API server's URL, instead of the kubeconfig's; or several, separated by commas: the agent
    /// uses one of them for as long as it answers
    #[arg(
        long,
        value_name = "URLS",
        global = true,
        hide_short_help = true,
        help_heading = PROXY_HEADING
    )]
    pub master: Option<String>,
    /// Log format [default: the file's, then text]
    #[arg(
        long,
        alias = "logging-format",
        value_name = "FORM",
        value_enum,
        global = true,
        help_heading = "Logging"
    )]
    pub log_format: Option<LogFormat>,
    /// What to log: error, warn, info, debug, trace, or a filter such as kube_ipvs=debug,kube=info
    #[arg(
        long,
        value_name = "LEVEL",
        env = "KUBE_IPVS_LOG",
        hide_env_values = true,
        global = true,
        help_heading = "Logging"
    )]
    pub log_level: Option<String>,
    /// kube-proxy's verbosity: from 4 on as `--log-level debug`, from 6 on as `trace`
    #[arg(
        short,
        long = "v",
        value_name = "N",
        value_parser = count::<u32>,
        global = true,
        help_heading = "Logging"
    )]
    pub verbosity: Option<u32>,
    /// kube-proxy's flags.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// Whether `--kubeconfig` overrides the file's. For the agent it does not, as for kube-proxy. Other
    /// commands run where the file's path may not exist.
    #[arg(skip)]
    pub overrides_kubeconfig: bool,
    /// What was amended of the command line: one line each.
    #[arg(skip)]
    pub warnings: Vec<String>,
}

/// Reads a path. It may be empty: kube-proxy takes that for none.
#[must_use]
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Reads a truth value as Go's flags do.
///
/// # Errors
///
/// Says what one looks like.
pub fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("use true or false".to_owned()),
    }
}

/// Reads a number that is not negative.
///
/// # Errors
///
/// Says what one looks like.
pub fn count<T: TryFrom<u32>>(text: &str) -> Result<T, String> {
    let count = read::count(&of_number(text))?;
    count.try_into().map_err(|_| format!("{count} is too much"))
}

/// The value of a text that should be a number.
fn of_number(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

/// Flags that kube-proxy had once, and those that replaced them.
const REPLACED: [(&str, &str); 2] =
    [("healthz-port", "healthz-bind-address"), ("metrics-port", "metrics-bind-address")];

/// kube-proxy's flags, with kube-proxy's meaning: the values of those that were given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProxyFlags {
    values: BTreeMap<&'static str, Value>,
    /// What was given without an effect: one line each.
    pub(super) warnings: Vec<String>,
}

impl ProxyFlags {
    /// The value of a flag, if it was given.
    #[must_use]
    pub fn value(&self, flag: &str) -> Option<&Value> {
        self.values.get(flag)
    }

    /// Whether no flag was given that has a meaning here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The options that were given.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static Opt, &Value)> {
        options::with_flags().filter_map(|option| Some((option, self.value(option.flag)?)))
    }
}

impl Opt {
    fn arg(&'static self, about: String) -> Arg {
        let arg = Arg::new(self.flag)
            .long(self.flag)
            .help(about)
            .help_heading(PROXY_HEADING)
            .hide_short_help(true)
            .global(true);
        let text = |arg: Arg, name| {
            arg.value_name(name).value_parser(StringValueParser::new().map(Value::from))
        };
        match self.form {
            Form::Truth(_) | Form::Unneeded => {
                taking_truth(arg).value_name("true|false").value_parser(
                    StringValueParser::new().try_map(|text| truth(&text).map(Value::from)),
                )
            }
            Form::Count(_) | Form::Number(_) | Form::Unsigned(_) => arg
                .value_name("N")
                .allow_negative_numbers(true)
                .value_parser(StringValueParser::new().try_map(|text| {
                    let value = of_number(&text);
                    self.form.check(&value).map(|()| value)
                })),
            Form::Time(_) | Form::Period(_) | Form::Timeout(_) => text(arg, "DURATION"),
            Form::OfServices(_) | Form::Labels(_) => text(arg, "VALUE"),
            Form::Text(name, _) => text(arg, name),
            Form::List(name, _) => text(arg, name).value_delimiter(',').action(ArgAction::Append),
        }
    }
}

/// Of `true`, `false` or nothing.
fn taking_truth(arg: Arg) -> Arg {
    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
}

impl Args for ProxyFlags {
    fn augment_args(command: Command) -> Command {
        // These may be repeated, as with kube-proxy.
        let ignored =
            |name| Arg::new(name).long(name).hide(true).global(true).action(ArgAction::Append);
        let flags = options::explained().filter(|(option, _)| !option.flag.is_empty());
        let values = ignored::ALL.iter().flat_map(|it| it.flags.split_whitespace());
        let values = values.chain(REPLACED.map(|(name, _)| name)).map(ignored);
        let truths = ignored::ALL.iter().flat_map(|it| it.truths.split_whitespace());
        command
            .args(flags.map(|(option, about)| option.arg(about)))
            .args(values.map(|arg| arg.num_args(1).allow_hyphen_values(true)))
            .args(truths.map(ignored).map(taking_truth))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ProxyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let value = |option: &'static Opt| {
            let mut values = matches.get_many::<Value>(option.flag)?.cloned();
            let value = match option.form {
                Form::List(..) => values.collect(),
                _ => values.next_back()?,
            };
            // An empty path is none, as with kube-proxy.
            let is_none = matches!(option.form, Form::Text("FILE", _)) && value == "";
            (!is_none).then_some((option.flag, value))
        };
        let is_given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let mut ignored = IgnoredNames::default();
        for reason in &ignored::ALL {
            for name in reason.all_flags().filter(is_given) {
                ignored.note(reason, format!("--{name}"));
            }
        }
        let replaced = REPLACED.into_iter().filter(|(name, _)| is_given(name));
        let replaced = replaced.map(|(name, by)| format!("--{name} is ignored: use --{by}"));
        Ok(Self {
            values: options::with_flags().filter_map(value).collect(),
            warnings: replaced.chain(ignored.told()).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
