#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn read(line: &str) -> Result<Cli, EarlyExit> {
    Cli::read(line.split_whitespace().map(OsString::from))
}

fn wrong(line: &str) -> String {
    match read(line) {
        Err(EarlyExit::Wrong(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_tree_is_sound() {
    command().debug_assert();
}

#[test]
fn kube_proxys_own_command_line_means_run() {
    let line = "kube-ipvs --config=/var/lib/kube-proxy/config.conf --hostname-override=n1 -v=2 \
                --masquerade-all --ipvs-strict-arp=true --profiling=false --oom-score-adj=-998 \
                --feature-gates=A=true --feature-gates=B=false --logging-format=json";
    let cli = read(line).unwrap();
    assert!(cli.command.is_none());
    assert_eq!(cli.run, RunFlags::default());
    assert_eq!(cli.shared.node_name.as_deref(), Some("n1"));
    assert_eq!(cli.shared.verbosity, Some(2));
    assert_eq!(cli.shared.proxy.value("masquerade-all"), Some(&json!(true)));
    assert_eq!(cli.shared.proxy.value("oom-score-adj"), Some(&json!(-998)));
}

#[test]
fn cleanup_and_init_only_are_read_as_flags() {
    for line in ["kube-ipvs --cleanup", "kube-ipvs --cleanup=true --config=c"] {
        assert_eq!(read(line).unwrap().run.cleanup, Some(true), "{line}");
    }
    assert_eq!(read("kube-ipvs --init-only=false --v=1").unwrap().run.init_only, Some(false));
    let Some(Command::Run(flags)) = read("kube-ipvs run --init-only").unwrap().command else {
        panic!("not run");
    };
    assert_eq!(flags.init_only, Some(true));
}

#[test]
fn each_command_shows_the_flags_that_matter_to_it() {
    let shown = |name: &str| {
        let command = command();
        let command = command.find_subcommand(name).unwrap();
        let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
        flags.filter_map(clap::Arg::get_long).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown("version"), ["output", "help"]);
    assert_eq!(
        shown("top")[6..],
        ["output", "config", "metrics-bind-address", "help"].map(str::to_owned)
    );
    assert!(shown("run").contains(&"masquerade-all".to_owned()));
}

#[test]
fn shared_flags_stand_before_or_after_the_command() {
    for line in ["kube-ipvs --node-name a plan", "kube-ipvs plan --node-name a"] {
        let cli = read(line).unwrap();
        assert_eq!(cli.shared.node_name.as_deref(), Some("a"), "{line}");
    }
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    let cli = read("kube-ipvs run --v=2 --ipvs-scheduler=rr --v=5 --ipvs-scheduler=lc").unwrap();
    assert_eq!(cli.shared.verbosity, Some(5));
    assert_eq!(cli.shared.proxy.value("ipvs-scheduler"), Some(&json!("lc")));
}

#[test]
fn usage_errors_are_one_line_with_a_correction() {
    let cases = [
        (
            "kube-ipvs run --ipvs-schedular=rr",
            "kube-ipvs: unexpected argument '--ipvs-schedular' found; a similar argument \
             exists: '--ipvs-scheduler'; try 'kube-ipvs run --help'\n",
        ),
        (
            "kube-ipvs render -n shop",
            "kube-ipvs: unexpected argument '-n' found; try 'kube-ipvs render --help'\n",
        ),
        (
            "kube-ipvs rum",
            "kube-ipvs: unrecognized subcommand 'rum'; a similar subcommand exists: 'run'; \
             try 'kube-ipvs --help'\n",
        ),
        (
            "kube-ipvs explain 10.0.0.1",
            "kube-ipvs: invalid value '10.0.0.1' for '<DEST>': \"10.0.0.1\" is not \
             ADDR:PORT[/tcp|udp|sctp] (an IPv6 address goes in brackets), nor svc/NAME or \
             svc/NAME:PORT; try 'kube-ipvs explain --help'\n",
        ),
        (
            "kube-ipvs explain 10.0.0.1:80",
            "kube-ipvs: the following required arguments were not provided: --from <SRC>; \
             try 'kube-ipvs explain --help'\n",
        ),
        (
            "kube-ipvs render -o xml",
            "kube-ipvs: invalid value 'xml' for '--output <OUTPUT>' [possible values: \
             ipvsadm, nft, route, json]; try 'kube-ipvs render --help'\n",
        ),
        (
            "kube-ipvs --masquerade-all=maybe",
            "kube-ipvs: invalid value 'maybe' for '--masquerade-all[=<true|false>]': use \
             true or false; try 'kube-ipvs --help'\n",
        ),
        (
            "kube-ipvs -v=high",
            "kube-ipvs: invalid value 'high' for '--v <N>': \"high\" is not a whole number from 0 \
             to 4294967295; try 'kube-ipvs --help'\n",
        ),
        (
            "kube-ipvs --conntrack-min=-1",
            "kube-ipvs: invalid value '-1' for '--conntrack-min <N>': -1 must not be negative; try \
             'kube-ipvs --help'\n",
        ),
        (
            "kube-ipvs --oom-score-adj=low",
            "kube-ipvs: invalid value 'low' for '--oom-score-adj <N>': \"low\" is not a whole \
             number; try 'kube-ipvs --help'\n",
        ),
        (
            "kube-ipvs top --limit=some",
            "kube-ipvs: invalid value 'some' for '--limit <COUNT>': \"some\" is not a whole number \
             from 0 to 4294967295; try 'kube-ipvs top --help'\n",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(wrong(line), expected);
    }
}

#[test]
fn flags_are_taken_as_kube_proxy_takes_them() {
    let line = "kube-ipvs --log_file=/x_y --proxy_mode=ipvs --cluster_cidr=10.244.0.0/16 \
                --hostname_override n_1 --boot-id-file=/proc/sys/kernel/random/boot_id \
                --skip_headers";
    let shared = read(line).unwrap().shared;
    assert_eq!(shared.proxy.value("proxy-mode"), Some(&json!("ipvs")));
    assert_eq!(shared.proxy.value("cluster-cidr"), Some(&json!("10.244.0.0/16")));
    assert_eq!(shared.node_name.as_deref(), Some("n_1"));
    assert_eq!(shared.warnings.len(), 5, "{:?}", shared.warnings);
    assert_eq!(shared.warnings[0], "--log_file: taken for --log-file");
    let what = wrong("kube-ipvs --masquerade_al");
    assert!(what.contains("'--masquerade-al'"), "{what}");
}

/// Those of which kube-proxy takes an empty text; numbers, times and truth values it does not.
#[test]
fn an_empty_value_is_none() {
    let flags = [
        "config",
        "kubeconfig",
        "master",
        "hostname-override",
        "cluster-cidr",
        "detect-local-mode",
        "pod-bridge-interface",
        "pod-interface-name-prefix",
        "nodeport-addresses",
        "ipvs-scheduler",
        "ipvs-exclude-cidrs",
        "bind-address",
        "healthz-bind-address",
        "metrics-bind-address",
        "proxy-mode",
        "write-config-to",
        "boot-id-file",
        "machine-id-file",
        "feature-gates",
        "kube-api-content-type",
        "log-backtrace-at",
        "log-dir",
        "log-file",
        "proxy-port-range",
        "show-hidden-metrics-for-version",
        "vmodule",
    ];
    for flag in flags {
        for line in [format!("kube-ipvs --{flag}="), format!("kube-ipvs run --{flag}=")] {
            let cli = read(&line).unwrap();
            let run = match cli.command {
                Some(Command::Run(flags)) => flags,
                _ => cli.run,
            };
            assert_eq!((cli.shared.config, run.write_config_to), (None, None), "{line}");
            assert_eq!(cli.shared.proxy.value("kubeconfig"), None, "{line}");
        }
    }
    let empty = ["kube-ipvs", "--kubeconfig", ""].map(OsString::from);
    assert_eq!(Cli::read(empty).unwrap().shared.proxy.value("kubeconfig"), None);
}

#[test]
fn the_version_is_printed_on_request() {
    for line in ["--version", "-V", "--version=true", "--version=raw", "run --version=1"] {
        let answer = read(&format!("kube-ipvs {line}")).unwrap_err();
        assert_eq!(answer, EarlyExit::Answer(format!("{VERSION}\n")), "{line}");
    }
    let cli = read("kube-ipvs --version=false --node-name=n1").unwrap();
    assert_eq!(cli.shared.node_name.as_deref(), Some("n1"));
}

#[test]
fn no_arguments_print_the_help() {
    assert!(wrong("kube-ipvs").contains("Usage: kube-ipvs"));
    assert!(matches!(read("kube-ipvs --help"), Err(EarlyExit::Answer(_))));
}
