//! The agent with the rights that the manifests give it, and not one more.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{Temporary, endpoints, service};

/// What a container runtime shows a container that is not privileged: settings and the root file
/// system can be read only.
const READ_ONLY: &str = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys \
                         && mount -o remount,bind,ro / && exec \"$@\"";

pub(crate) fn cases() -> Vec<Case> {
    vec![case("the_manifests_rights_are_enough", the_manifests_rights_are_enough)]
}

fn the_manifests_rights_are_enough(t: &mut TestContext<'_>) -> Step {
    let (init, agent) = containers();
    let privileged = init["securityContext"]["privileged"] == true;
    t.check("the init container is privileged", privileged, &init)?;
    let rights = wrapper(&agent["securityContext"]);
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    let options = "auditPeriod: 1s\ncanary: true";
    t.agent().configure(options)?;
    t.run_to_end("cleanup", &[])?;

    // Unprepared, a node is none of the agent's business, and it says what to do.
    let node = std::sync::Arc::clone(t.host(N1));
    let unprepared = Temporary::sysctl(&node, &["net.ipv4.vs.conntrack=0"])?;
    let ended = t.agent().run_under(&rights)?;
    t.exits_with("the agent on a node that is not prepared", 1, &ended)?;
    let told = ended.stderr.contains("sysctl -w net.ipv4.vs.conntrack=1");
    t.check("it names the command", told, &ended.stderr)?;
    t.run_to_end("run", &["--init-only"])?;
    let conntrack = node.read("cat", &["/proc/sys/net/ipv4/vs/conntrack"])?;
    t.equal("conntrack after the init container's step", "1", conntrack.trim())?;

    let web = service("dev/least").cluster_ip("10.96.7.1").port("http", 80).node_port(30700);
    t.apply(web.udp("dns", 53).load_balancer_ip("203.0.113.7"))?;
    let slice = || endpoints("dev/least").port("http", 8080).udp("dns", 8080);
    t.apply(slice().ready_on(P1).ready_on(P3))?;
    t.agent().start_under(&rights)?;
    has_the_rights(t)?;
    t.settled()?;
    // It keeps them when it replaces itself.
    t.agent().reconfigure(options, "ipvs: {scheduler: lc}")?;
    t.eventually_held("another scheduler", |ipvs| ipvs.contains("-t 10.96.7.1:80 -s lc"))?;
    has_the_rights(t)?;
    t.settled()?;
    for (client, to) in
        [(P2, "10.96.7.1:80/tcp"), (C, "192.168.50.1:30700/tcp"), (C, "203.0.113.7:80/tcp")]
    {
        t.expect(client, to, Answers::from_all([P1, P3]))?;
    }
    // Everything that the agent does later, too: drains, entries of connection tracking, removal.
    t.apply(slice().ready_on(P3))?;
    t.settled()?;
    t.expect(N1, "10.96.7.1:53/udp", Answers::from(P3))?;
    t.apply(slice())?;
    t.settled()?;
    t.expect(P2, "10.96.7.1:80/tcp", Refused)?;
    // A setting that is switched off meanwhile cannot be put right from there.
    let switched = "net.ipv4.vs.expire_nodest_conn";
    node.sysctl(&[&format!("{switched}=0")])?;
    t.agent().wait_for_log(&format!("run `sysctl -w {switched}=1`"))?;
    node.sysctl(&[&format!("{switched}=1")])?;
    t.agent().wait_for_log("the canary is answered")?;
    let log = t.agent().log();
    // The sizes of the machine's table can be set from its first network namespace only, where the
    // init container is and this lab is not; what the kernel kills first, the kubelet says.
    let by_others = ["nf_conntrack_buckets", "nf_conntrack_max", "oom_score_adj"];
    let is_denied = |line: &&str| {
        line.contains("denied") && !by_others.iter().any(|setting| line.contains(setting))
    };
    let complaints: Vec<&str> = log.lines().filter(is_denied).collect();
    t.check("nothing was denied", complaints.is_empty(), format!("{complaints:#?}"))?;
    t.agent().stop()?;
    drop(unprepared);
    node.sysctl(&["net.ipv4.vs.conntrack=1"])?;
    Ok(())
}

fn has_the_rights(t: &mut TestContext<'_>) -> Step {
    let status = t.agent().process_status()?;
    let rights = [("CapEff", ONLY_NET_ADMIN), ("CapBnd", ONLY_NET_ADMIN), ("NoNewPrivs", "1")];
    rights.into_iter().try_for_each(|(field, expected)| {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        t.check(&format!("{field} {expected}"), line.ends_with(expected), line)
    })
}

/// `CAP_NET_ADMIN` is number 12.
const ONLY_NET_ADMIN: &str = "0000000000001000";

/// The init container and the agent's.
fn containers() -> (Value, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base/daemonset.yaml");
    let text = fs::read_to_string(path).expect("the DaemonSet");
    let object: Value = serde_saphyr::from_str(&text).expect("YAML");
    let pod = &object["spec"]["template"]["spec"];
    (pod["initContainers"][0].clone(), pod["containers"][0].clone())
}

/// What starts a program with the rights of a security context.
fn wrapper(security: &Value) -> Vec<String> {
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert!(security["runAsUser"].is_null(), "another user needs another wrapper");
    let added = security["capabilities"]["add"].as_array().expect("a list");
    let added = added.iter().map(|name| name.as_str().expect("a name").to_lowercase());
    let capabilities: String = added.map(|name| format!(",+{name}")).collect();
    let words = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", "setpriv", "--no-new-privs"];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.push(format!("--bounding-set=-all{capabilities}"));
    words.push(format!("--inh-caps=-all{capabilities}"));
    words
}
