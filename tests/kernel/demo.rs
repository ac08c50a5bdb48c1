//! `make demo`: the agent works on `manifests/demo/`, real clients ask, and the story is told as
//! it happens. Anything that is not as it should be ends it with an error.
//!
//! `hack/record-demo` keeps the story in `docs/demo.cast`, and [`check_recording`] holds the two together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::{Family, Protocol, VirtualAddress};

use crate::context::{Failure, Step};
use crate::lab::Host::{C, N1, P1, P2, P3, P4};
use crate::lab::{Agent, Host, Lab, Load, PATIENCE, Reply, Server, Silence, ask, ping};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/demo");

/// The pods' own servers, beside those that the lab has at 8080 and 9090.
const SERVERS: [(Host, u16, Protocol); 10] = [
    (P1, 3000, Protocol::Tcp),
    (P3, 3000, Protocol::Tcp),
    (P4, 3000, Protocol::Tcp),
    (P2, 4000, Protocol::Tcp),
    (P4, 4000, Protocol::Tcp),
    (P2, 53, Protocol::Udp),
    (P2, 53, Protocol::Tcp),
    (P2, 9153, Protocol::Tcp),
    (P3, 53, Protocol::Udp),
    (P3, 53, Protocol::Tcp),
];

/// The address that the clients ask while pods come and go.
const ENT: &str = "10.96.0.20:80/tcp";
/// The other Service of that name, with options.
const PROD: &str = "10.96.0.21:80/tcp";
/// A Service of a named port.
const TEST: &str = "10.96.0.30:80/tcp";
/// The file with the endpoints that change.
const ENT_FILE: &str = "ent-dev.yaml";

/// What the story takes place in.
const SCENE: [&str; 6] = [
    "No cluster is needed: Services and EndpointSlices come from the files of manifests/demo. The",
    "nodes, the pods and the client are network namespaces of one machine. All packets are real.",
    "",
    "node N1 192.168.50.1   pods P1 10.244.1.11, P2 10.244.1.12   kube-ipvs runs here",
    "node N2 192.168.50.2   pods P3 10.244.2.13, P4 10.244.2.14",
    "C                      a client outside of the cluster",
];

/// Tells the whole story, a line at a time.
pub(crate) fn run(tell: &dyn Fn(&str)) -> Step {
    let lab = Lab::build()?;
    let mut servers = Vec::new();
    for (host, port, protocol) in SERVERS {
        servers.push(Server::start(lab.host(host), host, Family::V4, port, protocol)?);
    }
    let metrics = Server::start(lab.host(P3), P3, Family::V4, 9153, Protocol::Tcp)?;
    let agent = Agent::new(&lab, "demo")?;
    let mut story = Story { tell, lab, agent, servers };
    SCENE.iter().for_each(|line| story.say(line));
    story.starts()?;
    story.two_services_of_one_name()?;
    story.named_port()?;
    story.dns()?;
    story.shows_all()?;
    story.options()?;
    story.pods_come_and_go()?;
    story.refusals()?;
    drop(metrics);
    story.ends()
}

struct Story<'a> {
    tell: &'a dyn Fn(&str),
    lab: Lab,
    agent: Agent,
    servers: Vec<Server>,
}

impl Story<'_> {
    fn title(&self, text: &str) {
        (self.tell)("");
        (self.tell)(&format!("== {text}"));
    }

    fn say(&self, text: &str) {
        (self.tell)(format!("   {text}").trim_end());
    }

    /// Runs a command on node n1 and shows it with what it prints, without the first `skipped` lines.
    fn shows(&self, program: &str, arguments: &[&str], skipped: usize) -> Step {
        self.say(&format!("$ {program} {}", arguments.join(" ")));
        let printed = self.lab.host(N1).read(program, arguments)?;
        printed.lines().skip(skipped).for_each(|line| self.say(line));
        Ok(())
    }

    fn starts(&mut self) -> Step {
        self.title("The agent starts on node N1 and writes the Services into the kernel");
        self.say("$ kube-ipvs run --manifests manifests/demo --node-name n1");
        for entry in fs::read_dir(MANIFESTS)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if Path::new(name).extension().is_some_and(|extension| extension == "yaml") {
                self.agent.save(name, &fs::read_to_string(&path)?)?;
            }
        }
        let start = Instant::now();
        self.agent.start()?;
        let took = start.elapsed().as_millis();
        let line = self.agent.synced_line().unwrap_or_default();
        let number = |name: &str| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or("?")
        };
        let (services, servers) = (number("services"), number("real_servers"));
        let operations = number("operations");
        self.say(&format!(
            "{services} Services with {servers} endpoints took {operations} operations"
        ));
        self.say(&format!("in sync {took} ms after its start"));
        Ok(())
    }

    fn two_services_of_one_name(&self) -> Step {
        self.title("A ClusterIP: IPVS gives each connection to the next endpoint");
        self.say(
            "Two Services are named `ent`, in namespaces dev and prod, each with its own pods.",
        );
        self.asks("dev/ent ", P2, ENT, &[P1, P3], 6)?;
        self.asks("prod/ent", P2, PROD, &[P2, P4], 6)?;
        self.say("A Service is one virtual server; its endpoints are the real servers behind it.");
        self.shows("ipvsadm", &["-Ln", "-t", "10.96.0.20:80"], 0)?;
        self.say("`explain` says where a connection would go, and why.");
        let asked = ["10.96.0.20:80", "--from", "10.244.1.12"];
        self.say(&format!("$ kube-ipvs explain {}", asked.join(" ")));
        let explained = self.agent.command("explain", &asked)?;
        explained.stdout.lines().for_each(|line| self.say(line));
        let is_right = explained.stdout.contains("forward");
        if is_right { Ok(()) } else { Err(Failure::new("explain", "forward", explained.stderr)) }
    }

    fn options(&self) -> Step {
        self.title("Options: an annotation gives prod/ent another scheduler or other weights");
        let text = fs::read_to_string(Path::new(MANIFESTS).join("ent-prod.yaml"))?;
        for (annotation, scheduler, effect) in [
            (
                "kube-ipvs.io/locality-weights: node=3",
                "wrr",
                "N1 prefers its own pod, three to one",
            ),
            ("kube-ipvs.io/scheduler: mh", "mh", "a hash of the client, alike on every node"),
            ("", "rr", "no annotation, the default again"),
        ] {
            let annotations = format!("  name: ent\n  annotations: {{ {annotation} }}\n");
            self.agent.save("ent-prod.yaml", &text.replacen("  name: ent\n", &annotations, 1))?;
            let shown = || self.lab.host(N1).read("ipvsadm", &["-Ln", "-t", "10.96.0.21:80"]);
            let start = Instant::now();
            while !shown()?.contains(&format!("10.96.0.21:80 {scheduler}")) {
                if start.elapsed() > PATIENCE {
                    return Err(Failure::new(annotation, scheduler, shown()?));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            self.say(format!("{annotation:<39} {effect}").trim_start());
            shown()?.lines().skip(2).for_each(|line| self.say(&format!("  {line}")));
        }
        Ok(())
    }

    fn named_port(&self) -> Step {
        self.title(
            "Every client is served: pods, the node itself, and clients outside of the cluster",
        );
        self.say("Port 80 of test-svc leads to the pods' port `web-port`: 8080 in P1 and P3, 9090 in P4.");
        self.asks("a pod", P2, TEST, &[P1, P3, P4], 6)?;
        self.asks("the node", N1, TEST, &[P1, P3, P4], 6)?;
        self.asks("outside", C, TEST, &[P1, P3, P4], 6)?;
        self.asks("IPv6", P2, "[fd00:96::30]:80/tcp", &[P1, P3], 4)
    }

    fn dns(&self) -> Step {
        self.title("DNS: kube-dns has one port number for UDP and TCP");
        for address in ["10.96.0.10:53/udp", "10.96.0.10:53/tcp", "10.96.0.10:9153/tcp"] {
            self.asks("a pod", P1, address, &[P2, P3], 4)?;
        }
        self.asks("the node", N1, "10.96.0.10:53/udp", &[P2, P3], 4)
    }

    /// Clients loop while a pod ends and another one is added.
    fn pods_come_and_go(&mut self) -> Step {
        self.title("A rollout: P1 ends and P4 is added to dev/ent, and no request fails");
        self.say("P2, the node N1 and C ask dev/ent all the time.");
        let loads = [P2, N1, C].map(|client| {
            Load::start(self.lab.host(client), client, vec![address(ENT)], Duration::ZERO)
        });
        loads.iter().for_each(|load| load.wait_for(20));

        let file = self.agent.manifests().join(ENT_FILE);
        let text = fs::read_to_string(&file)?;
        let leaving = text.replacen(
            "ready: true, serving: true, terminating: false",
            "ready: false, serving: true, terminating: true",
            1,
        );
        self.edit("P1 is told to end: no new connections", &leaving, |lines| {
            !lines.contains(&real_server(P1, 3000, 1))
        })?;
        // The process ends once it has answered what it was asked before.
        loads.iter().for_each(|load| load.wait_for(3));
        self.servers.remove(0);
        self.say("P1 has answered everything, and ends.");
        loads[0].wait_for(20);

        let block = "  - addresses: [10.244.2.14]\n    conditions: { ready: true, serving: true, terminating: false }\n    nodeName: n2\n";
        let first = leaving.find("  - addresses: [10.244.1.11]").unwrap_or_default();
        let second = leaving.find("  - addresses: [10.244.2.13]").unwrap_or_default();
        let gone = format!("{}{}", &leaving[..first], &leaving[second..]);
        self.edit("P4 takes its place: in the kernel", &format!("{gone}{block}"), |lines| {
            lines.contains(&real_server(P4, 3000, 1))
        })?;
        loads.iter().for_each(|load| load.wait_for(20));

        let mut answers: BTreeMap<Host, usize> = BTreeMap::new();
        for load in loads {
            let report = load.stop();
            let (requests, failed) = (report.requests(), report.failures.len());
            self.say(&format!("{}: {requests} requests, {failed} failed", report.client));
            if failed > 0 {
                return Err(Failure::new(
                    "a client asks all the time",
                    "no failed request",
                    report,
                ));
            }
            for (host, count) in report.answers {
                *answers.entry(host).or_default() += count;
            }
        }
        let answers: Vec<_> =
            answers.iter().map(|(host, count)| format!("{host} {count}")).collect();
        self.say(&format!("answers by pod: {}", answers.join(", ")));
        self.asks("afterwards", P2, ENT, &[P3, P4], 4)
    }

    fn refusals(&self) -> Step {
        self.title(
            "Ports that no Service has are refused at once, and reach no process of the node",
        );
        for (client, to) in
            [(P2, "10.96.0.20:81/tcp"), (N1, "10.96.0.20:81/udp"), (C, "10.96.0.20:22/tcp")]
        {
            let start = Instant::now();
            let answer = ask(self.lab.host(client), address(to), PATIENCE);
            self.refused(&format!("{client} asks {to}"), start, answer.map(|it| it.to_string()))?;
        }
        for client in [P2, N1, C] {
            let start = Instant::now();
            let answer = ping(self.lab.host(client), address(ENT).ip, PATIENCE);
            let answer = answer.map(|()| "an echo reply".to_owned());
            self.refused(&format!("{client} pings {}", address(ENT).ip), start, answer)?;
        }
        Ok(())
    }

    fn shows_all(&self) -> Step {
        self.title("All of it, as `ipvsadm` shows it");
        self.shows("ipvsadm", &["-Ln"], 1)
    }

    fn ends(mut self) -> Step {
        self.title("The agent ends, and `cleanup` removes everything that it has written");
        self.agent.stop()?;
        self.say("$ kube-ipvs cleanup");
        let finished = self.agent.command("cleanup", &[])?;
        let left = self.lab.host(N1).read("ipvsadm", &["-Sn"])?;
        if finished.status != Some(0) || !left.is_empty() {
            return Err(Failure::new("kube-ipvs cleanup", "nothing left", left + &finished.stderr));
        }
        self.say("IPVS is empty.");
        self.say(
            "Each answer above was checked. The next step with a cluster: docs/getting-started.md",
        );
        Ok(())
    }

    /// Asks a Service as often as said: each of the servers has to answer equally often, in turn.
    fn asks(&self, label: &str, client: Host, to: &str, servers: &[Host], times: usize) -> Step {
        let mut replies: Vec<Reply> = Vec::new();
        let step = format!("{client} asks {to}");
        for _ in 0..times {
            let reply = ask(self.lab.host(client), address(to), PATIENCE)
                .map_err(|silence| Failure::new(&step, "an answer", silence))?;
            replies.push(reply);
        }
        let sequence: Vec<String> =
            replies.iter().map(|reply| format!("{}:{}", reply.server, reply.port)).collect();
        let sequence = sequence.join(" ");
        self.say(&format!("{label:<11} {step:<28} {sequence}"));
        let in_turn = replies.windows(servers.len()).all(|window| {
            servers.iter().all(|server| window.iter().any(|reply| reply.server == *server))
        });
        if in_turn {
            Ok(())
        } else {
            Err(Failure::new(step, format!("{servers:?} in turn"), sequence))
        }
    }

    /// Saves an edit and says how long after it the kernel had it.
    fn edit(&self, what: &str, text: &str, done: impl Fn(&[String]) -> bool + Sync) -> Step {
        let node = self.lab.host(N1);
        let agent = &self.agent;
        let took = node.inside(|| {
            let start = Instant::now();
            agent.save(ENT_FILE, text)?;
            while !done(&real_servers()?) {
                if start.elapsed() > PATIENCE {
                    return Err(Failure::new(what, "a change in the kernel", "none"));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(start.elapsed())
        })?;
        self.say(&format!("{what} {:.1} ms after the file was saved", took.as_secs_f64() * 1000.0));
        Ok(())
    }

    fn refused(&self, step: &str, start: Instant, answer: Result<String, Silence>) -> Step {
        let got = match answer {
            Err(Silence::Refused) => {
                let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
                self.say(&format!("{step:<28} refused after {milliseconds:.1} ms"));
                return Ok(());
            }
            Err(silence) => silence.to_string(),
            Ok(answer) => answer,
        };
        Err(Failure::new(step, "refused", got))
    }
}

/// What IPVS has for `dev/ent`, read without a process: `ADDR:PORT/WEIGHT`.
fn real_servers() -> std::io::Result<Vec<String>> {
    let text = fs::read_to_string("/proc/thread-self/net/ip_vs")?;
    let mut found = Vec::new();
    let mut ours = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["TCP", socket, ..] => ours = *socket == hexadecimal(address(ENT).ip, 80),
            ["->", socket, "Masq", weight, ..] if ours => found.push(format!("{socket}/{weight}")),
            ["->", ..] => {}
            _ => ours = false,
        }
    }
    Ok(found)
}

fn real_server(host: Host, port: u16, weight: u32) -> String {
    format!("{}/{weight}", hexadecimal(host.ip(Family::V4), port))
}

/// As `/proc/net/ip_vs` writes an IPv4 socket address: `0A600014:0050`.
fn hexadecimal(ip: std::net::IpAddr, port: u16) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => format!("{:08X}:{port:04X}", u32::from(ip)),
        std::net::IpAddr::V6(ip) => format!("[{ip}]:{port:04X}"),
    }
}

fn address(text: &str) -> VirtualAddress {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A recording of the story, in the format asciicast v2: a line each of JSON, the first about the rest.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/demo.cast");

/// Fails unless the recording tells the story as it is told now, apart from figures.
pub(crate) fn check_recording() {
    let told = RefCell::new(Vec::new());
    run(&|line| told.borrow_mut().push(shape(line))).unwrap_or_else(|failure| panic!("{failure}"));
    let recording = fs::read_to_string(RECORDING).unwrap();
    let events = recording.lines().skip(1).map(|line| {
        let (_, _, text): (f64, String, String) = serde_json::from_str(line).unwrap();
        text
    });
    let recorded: Vec<_> = events.collect::<String>().lines().skip(1).map(shape).collect();
    assert_eq!(recorded, told.into_inner(), "run hack/record-demo");
}

/// The words of a line in order of the alphabet, because endpoints take turns from any of them on, and with
/// `#` for each figure.
fn shape(line: &str) -> String {
    let is_figure = |word: &&str| word.trim_end_matches([',', '.']).parse::<f64>().is_ok();
    let words = line.split_whitespace();
    let mut words: Vec<_> = words.map(|it| if is_figure(&it) { "#" } else { it }).collect();
    words.sort_unstable();
    words.join(" ")
}
