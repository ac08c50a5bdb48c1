//! What is said of a configuration: errors and warnings.

use super::*;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration";

#[test]
fn fields_without_effect_are_warned_of() {
    let cases = [
        ("--proxy-mode=iptables", "--proxy-mode: \"iptables\" is not what this proxy is"),
        ("--ipvs-exclude-cidrs=10.0.0.0/8", "--ipvs-exclude-cidrs: not needed"),
        ("--detect-local-mode=ClusterCIDR", "--detect-local-mode: ClusterCIDR without a range"),
        ("--nodeport-addresses=localhost", "--nodeport-addresses: node ports are not served on"),
        ("--iptables-sync-period=1s", "ignored: --iptables-sync-period (of kube-proxy's other"),
        (
            "--feature-gates=A=true,B=false",
            "ignored: --feature-gates (of kube-proxy's own program)",
        ),
        ("--healthz-port=0", "--healthz-port is ignored: use --healthz-bind-address"),
    ];
    for (line, expected) in cases {
        let warnings = resolve(line).warnings;
        assert_eq!(warnings.len(), 1, "{line}: {warnings:?}");
        assert!(warnings[0].starts_with(expected), "{}", warnings[0]);
    }
    assert_eq!(resolve("--ipvs-strict-arp --proxy-mode=").warnings, Vec::<String>::new());
}

#[test]
fn wrong_values_name_flag_or_field() {
    let cases = [
        (
            "--ipvs-scheduler=fast",
            "ipvs: {scheduler: fast}",
            "ipvs.scheduler",
            "unknown IPVS scheduler \"fast\": use one of rr",
        ),
        (
            "--cluster-cidr=10.0.0.0",
            "clusterCIDR: 10.0.0.0",
            "clusterCIDR",
            "\"10.0.0.0\" is not an address range such as",
        ),
        (
            "--detect-local-mode=Magic",
            "detectLocalMode: Magic",
            "detectLocalMode",
            "\"Magic\" is none: use ClusterCIDR, NodeCIDR",
        ),
        (
            "--detect-local-mode=BridgeInterface",
            "detectLocalMode: BridgeInterface",
            "detectLocal.bridgeInterface",
            "needed for ",
        ),
        (
            "--ipvs-udp-timeout=soon",
            "ipvs: {udpTimeout: soon}",
            "ipvs.udpTimeout",
            "\"soon\" is not a duration such as 30s",
        ),
        (
            "--ipvs-tcp-timeout=9999h",
            "ipvs: {tcpTimeout: 9999h}",
            "ipvs.tcpTimeout",
            "9999h0m0s is not between 1s and 596h31m23s",
        ),
        (
            "--nodeport-addresses=primary,10.0.0.0/8",
            "nodePortAddresses: [primary, 10.0.0.0/8]",
            "nodePortAddresses",
            "\"primary\" cannot stand beside ranges",
        ),
        (
            "--oom-score-adj=1001",
            "oomScoreAdj: 1001",
            "oomScoreAdj",
            "1001 is not between -1000 and 1000",
        ),
        (
            "--bind-address=here",
            "bindAddress: here",
            "bindAddress",
            "\"here\" is not an IP address",
        ),
        (
            "--metrics-bind-address=:x",
            "metricsBindAddress: ':x'",
            "metricsBindAddress",
            "\":x\" is not ADDRESS:PORT",
        ),
    ];
    for (line, document, field, reason) in cases {
        let error = try_resolve(&flags(line)).unwrap_err().to_string();
        let flag = of_field(field).unwrap().flag;
        assert!(error.starts_with(&format!("--{flag}: {reason}")), "{error}");

        let error = with_file(&format!("{HEAD}\n{document}\n"), "").unwrap_err().to_string();
        let expected = format!("config.conf: document 1: {field}: {reason}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn ignored_fields_are_told_in_one_line_with_the_reasons() {
    let text = KUBEADM
        .replace("localhostNodePorts: null", "localhostNodePorts: true")
        .replace("qps: 0", "qps: 5")
        .replace("forwardHealthCheckVip: false", "forwardHealthCheckVip: true")
        .replace("flushFrequency: 0", "flushFrequency: 5s")
        + "featureGates: { A: true, B: false }\n";
    let expected = "config.conf: ignored: iptables.localhostNodePorts, \
                    winkernel.forwardHealthCheckVip (of kube-proxy's other modes); \
                    clientConnection.qps (the agent's client sets its own pace and encoding); \
                    featureGates.A (of kube-proxy's own program); logging.flushFrequency (of \
                    kube-proxy's log: use --log-format, --log-level)";
    let warnings = with_file(&text, "").unwrap().warnings;
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(
        warning.split_once("config.conf").unwrap().1,
        expected.trim_start_matches("config.conf")
    );
}

#[test]
fn ignored_flags_are_told_in_one_line_with_the_reasons() {
    let line = "--profiling --iptables-sync-period=1s --feature-gates=A=true --logtostderr=false \
                --iptables-masquerade-bit=14";
    let expected = "ignored: --iptables-masquerade-bit, --iptables-sync-period (of kube-proxy's other \
                    modes); --feature-gates, --profiling (of kube-proxy's own program); --logtostderr \
                    (of kube-proxy's log: use --log-format, --log-level)";
    assert_eq!(resolve(line).warnings, [expected]);
}

/// What the field takes, without words of the program's language.
#[test]
fn values_of_another_form_are_told_what_is_allowed() {
    let cases = [
        ("ipvs: {syncPeriod: 30}", "ipvs.syncPeriod: 30 has no unit: write 30s"),
        ("ipvs: {syncPeriod: '30'}", "ipvs.syncPeriod: 30 has no unit: write 30s"),
        ("ipvs: {tcpTimeout: -1s}", "ipvs.tcpTimeout: -1s must not be negative"),
        (
            "ipvs: {tcpTimeout: true}",
            "ipvs.tcpTimeout: true is not a duration such as 30s, 5m or 1h30m",
        ),
        ("ipvs: {udpTimeout: 0}", ""),
        ("ipvs: 5", "ipvs: 5 is not a mapping of fields"),
        ("ipvs: {scheduler: 5}", "ipvs.scheduler: 5 is not a text: write \"5\""),
        ("hostnameOverride: no", "hostnameOverride: false is not a text: put what the file has in"),
        ("ipvs: {scheduler: {a: 1}}", "ipvs.scheduler: a mapping is not a text"),
        ("conntrack: {min: -1}", "conntrack.min: -1 must not be negative"),
        ("conntrack: {min: x}", "conntrack.min: \"x\" is not a whole number from 0 to 4294967295"),
        ("conntrack: {min: 1.5}", "conntrack.min: 1.5 is not a whole number from 0 to 4294967295"),
        (
            "conntrack: {min: 9999999999}",
            "conntrack.min: 9999999999 is not a whole number from 0 to",
        ),
        ("iptables: {masqueradeAll: 1}", "iptables.masqueradeAll: 1 is neither true nor false"),
        ("oomScoreAdj: 5000000000", "oomScoreAdj: 5000000000 is not between -1000 and 1000"),
        ("oomScoreAdj: low", "oomScoreAdj: \"low\" is not a whole number"),
        (
            "nodePortAddresses: 10.0.0.0/8",
            "nodePortAddresses: \"10.0.0.0/8\" is not a list: write [",
        ),
        ("nodePortAddresses: [[1]]", "nodePortAddresses: a list is not a text, a number, true or"),
        ("logging: {verbosity: high}", "logging.verbosity: \"high\" is not a whole number"),
        ("logging: {verbosity: -1}", "logging.verbosity: -1 must not be negative"),
        ("conntrack: {min: 0100}", "conntrack.min: 100 must begin with no zero"),
        ("conntrack: {min: 0o100}", ""),
    ];
    for (document, expected) in cases {
        match with_file(&format!("{HEAD}\n{document}\n"), "") {
            Ok(_) => assert_eq!(expected, "", "{document}"),
            Err(error) => {
                let error = error.to_string();
                let expected = format!("config.conf: document 1: {expected}");
                assert!(error.starts_with(&expected), "{error}");
                assert!(!error.contains("expected"), "{error}");
            }
        }
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let text = format!(
        "{HEAD}
ipvs: {{ syncPeriod: 30, scheduler: fast }}
detectLocalMode: BridgeInterface
detectLocal: {{ bridgeInterface: [1] }}
nodePortAddresses: [a, 10.0.0.0/8, b]
oomScoreAdj: 1001
metricsBindAddress: here
---
apiVersion: {}
kind: {}
auditPeriod: often
carry: offload
defaults: {{ eject: soon }}
",
        OWN.version, OWN.kind
    );
    let error = with_file(&text, "").unwrap_err();
    let told: Vec<_> = error.each().iter().map(ToString::to_string).collect();
    let expected = [
        // Nothing more is said of a field whose value is of another form.
        "1: detectLocal.bridgeInterface: a list is not a text",
        "1: ipvs.scheduler: unknown IPVS scheduler \"fast\"",
        "1: ipvs.syncPeriod: 30 has no unit: write 30s",
        "1: metricsBindAddress: \"here\" is not ADDRESS:PORT",
        "1: nodePortAddresses: \"a\" is not an address range such as 192.0.2.0/24; \"b\" is not",
        "1: oomScoreAdj: 1001 is not between",
        "2: auditPeriod: \"often\" is not a duration",
        "2: defaults.eject: ",
        "2: offloadInterfaces: needed for carry offload",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(&format!("config.conf: document {expected}")), "{told}");
    }

    let line = "--ipvs-scheduler=fast --oom-score-adj=1001 --cluster-cidr=x";
    let error = try_resolve(&flags(line)).unwrap_err();
    assert_eq!(error.each().len(), 3, "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[test]
fn what_a_configuration_has_with_kube_proxy_alone_is_told() {
    let told = |text: &str| {
        let given = document::parse(Path::new("config.conf"), text).unwrap();
        let node_names = [Some("n1".to_owned()), None];
        let flags = SharedFlags::default();
        let found = differences::of(Resolver { flags: &flags, node_names, given }).unwrap();
        found.into_iter().map(|it| it.what).collect::<Vec<_>>()
    };
    assert_eq!(told(KUBEADM), Vec::<String>::new());
    assert_eq!(told(&format!("apiVersion: {}\nkind: {}\n", OWN.version, OWN.kind)), [""; 0]);
    let by_flags = |line: &str| {
        let flags = flags(line);
        let resolver = Resolver::new(&flags, [Some("n1".to_owned()), None]).unwrap();
        differences::of(resolver).unwrap().len()
    };
    let lines = ["", "--kubeconfig=/k", "--cluster-cidr=10.0.0.0/8", "--proxy-mode=ipvs"];
    assert_eq!(lines.map(by_flags), [0, 0, 1, 0]);
    for mode in ["\"\"", "iptables"] {
        let found = told(&KUBEADM.replace("mode: ipvs", &format!("mode: {mode}")));
        assert!(found[0].starts_with("config.conf: mode: node ports at 127.0.0.1"), "{found:?}");
    }
    let cases = [
        ("strictARP: false", "strictARP: true", "ipvs.strictARP: arp_ignore and arp_announce stay"),
        ("bindAddress: 0.0.0.0", "bindAddress: 192.0.2.1", "bindAddress: only its family counts"),
        ("masqueradeBit: null", "masqueradeBit: 15", "ignored: iptables.masqueradeBit"),
    ];
    for (old, new, expected) in cases {
        let found = told(&KUBEADM.replacen(old, new, 1));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("config.conf: {expected}")), "{found:?}");
    }
}
