use super::*;

fn control(annotations: &[(&str, &str)]) -> Control {
    read(annotations.iter().copied()).map(|control| *control).unwrap_or_default()
}

fn option(name: &str, value: &str) -> Control {
    control(&[(&format!("{PREFIX}{name}"), value)])
}

#[test]
fn every_option_is_read() {
    let duration = Duration::from_secs;
    let expected = Control {
        scheduler: Some(Scheduler::Mh),
        scheduler_flags: Some(SchedulerFlags {
            scheduler: Some(Scheduler::Mh),
            port: true,
            fallback: true,
        }),
        locality_weights: Some(LocalityWeights { node: 16, zone: 4, other: 1 }),
        slow_start: Some(duration(30)),
        max_connections: NonZeroU32::new(100),
        drain: Some(Duration::MAX),
        one_packet: Some(true),
        affinity_prefix: Some(AffinityPrefix { v4: 24, v6: 56 }),
        eject: Some(duration(2)),
        frontends: Some([FrontendKind::ClusterIp, FrontendKind::LoadBalancer].into()),
        nodes: label_selector("role=edge").ok(),
        invalid: [].into(),
    };
    let values = [
        ("scheduler", "mh"),
        ("scheduler-flags", "mh-port, mh-fallback"),
        ("locality-weights", "zone=4, node=16"),
        ("slow-start", "30s"),
        ("max-connections", "100"),
        ("drain", "unlimited"),
        ("one-packet", "true"),
        ("affinity-prefix", "/24,/56"),
        ("eject", " 2s "),
        ("front-ends", "LoadBalancer,ClusterIP"),
        ("nodes", "role=edge"),
    ];
    assert_eq!(values.map(|(name, _)| name), OPTIONS.map(|option| option.name));
    let names = values.map(|(name, value)| (format!("{PREFIX}{name}"), value));
    let annotations: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(control(&annotations), expected);
    assert_eq!(control(&[("example.com/scheduler", "rr")]), Control::default());
}

#[test]
fn every_option_is_documented() {
    let text = include_str!("../../docs/control.md");
    for ServiceOption { name, values, summary, aliases, .. } in OPTIONS {
        assert!(text.contains(&format!("| [`{name}`](#")), "{name} has no row");
        assert!(text.contains(&format!(" | {values} | {summary} |")), "the row of {name}");
        assert!(text.contains(&format!("`{PREFIX}{name}: ")), "{name} has no example");
        for alias in aliases {
            assert!(text.contains(&format!("`{alias}`")), "{alias}");
        }
    }
    assert!(text.contains(SLICE_WEIGHT) && text.contains(SLICE_WEIGHT_ALIAS));
    assert!(text.contains(&format!("`{SKIP_LOAD_BALANCER}`")));
}

#[test]
fn annotations_of_other_programs_are_read() {
    let mh = [("kube-router.io/service.scheduler", "mh")];
    assert_eq!(control(&mh).scheduler, Some(Scheduler::Mh));
    let both = [mh[0], ("kube-ipvs.io/scheduler", "rr")];
    assert_eq!(control(&both).scheduler, Some(Scheduler::Rr));
    let flags = control(&[("kube-router.io/service.schedflags", "sh-port,flag-1")]);
    let flags = flags.scheduler_flags.unwrap_or_default();
    assert_eq!((flags.scheduler, flags.bits()), (Some(Scheduler::Sh), 0x18));
    let skipped = control(&[("kube-router.io/service.skiplbips", "true")]).frontends;
    let others = [FrontendKind::ClusterIp, FrontendKind::NodePort, FrontendKind::ExternalIp];
    assert_eq!(skipped.as_deref(), Some(others.as_slice()));
    assert_eq!(control(&[("kube-router.io/service.skiplbips", "false")]).frontends, None);
    let cilium = [
        ("service.cilium.io/type", "NodePort"),
        ("service.cilium.io/node-selector", "service.cilium.io/node in ( T1, T2 )"),
    ];
    assert_eq!(control(&cilium).frontends.as_deref(), Some([FrontendKind::NodePort].as_slice()));
    assert!(control(&cilium).nodes.is_some_and(|nodes| !nodes.selects(|_, _| false)));
}

#[test]
fn an_invalid_value_costs_its_option_alone() {
    for (name, value, reason) in [
        ("scheduler", "best", "unknown IPVS scheduler \"best\""),
        ("scheduler-flags", "sh-port,mh-port", "exclude each other"),
        ("scheduler-flags", "port", "\"port\" is not sh-port,"),
        ("locality-weights", "node=0", "a weight from 1 to 1000"),
        ("locality-weights", "rack=2", "node=N, zone=N or other=N"),
        ("slow-start", "2h", "a duration from 1s to 1h"),
        ("slow-start", "soon", "is not a duration"),
        ("max-connections", "0", "a number from 1"),
        ("max-connections", "2147483648", "a number from 1 to 2147483647"),
        ("drain", "-1s", "-1s must not be negative"),
        ("drain", "1d", "is not a duration"),
        ("one-packet", "yes", "true or false"),
        ("affinity-prefix", "/56,/24", "a prefix length"),
        ("affinity-prefix", "24", "a prefix length"),
        ("eject", "0s", "a duration from 1s to 1h"),
        ("front-ends", "", "ClusterIP, NodePort, LoadBalancer or ExternalIP"),
        ("nodes", "a b", "is not a label selector"),
        ("schedular", "rr", "unknown option; the options of a Service are scheduler,"),
    ] {
        let all = [("kube-ipvs.io/drain", "5s"), (&*format!("{PREFIX}{name}"), value)];
        let all = if name == "drain" { &all[1..] } else { &all };
        let control = control(all);
        let expected = (name != "drain").then_some(Duration::from_secs(5));
        assert_eq!(
            Control { invalid: [].into(), ..control.clone() },
            Control { drain: expected, ..Control::default() }
        );
        let [message] = &*control.invalid else { panic!("{name}: {:?}", control.invalid) };
        assert!(message.starts_with(&format!("annotation {PREFIX}{name}: ")), "{message}");
        assert!(message.contains(reason), "{message} says not: {reason}");
    }
    assert_eq!(option("slow-start", "0s").slow_start, Some(Duration::ZERO));
    assert_eq!(option("eject", "off").eject, Some(Duration::ZERO));
}

#[test]
fn messages_about_annotations_are_bounded() {
    let long = "x".repeat(1 << 20);
    let names: Vec<_> = (0..1000).map(|index| format!("{PREFIX}{index}{long:.9}")).collect();
    let mut all: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    let values = OPTIONS.map(|option| format!("{PREFIX}{}", option.name));
    all.extend(values.iter().map(|name| (name.as_str(), long.as_str())));
    all.reverse();
    let invalid = control(&all).invalid;
    assert_eq!(invalid.len(), MOST_INVALID + 1);
    let longest = invalid.iter().map(String::len).max();
    assert!(longest < Some(500), "{longest:?}");
    assert_eq!(invalid[MOST_INVALID], "1006 more annotations are ignored");
}

#[test]
fn the_weight_of_a_slice_is_read() {
    assert_eq!(slice_weight("0"), Ok(0));
    assert_eq!(slice_weight(" 65535"), Ok(65535));
    assert!(slice_weight("65536").is_err());
    assert!(slice_weight("-1").is_err());
}
