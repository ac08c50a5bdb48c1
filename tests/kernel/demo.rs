//! `make demo`: the agent works on `manifests/demo/`, real clients ask, and the story is told as
//! it happens. Anything that is not as it should be ends it with an error.

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
/// The file whose endpoints change.
const ENT_FILE: &str = "ent-dev.yaml";

/// Tells the whole story.
pub(crate) fn run() -> Step {
    let kernel = rustix::system::uname();
    say(&format!("kube-ipvs on a real kernel, Linux {}", kernel.release().to_string_lossy()));
    say("Node N1 (192.168.50.1) has the agent and pods P1 and P2; node N2 has P3 and P4; C is a");
    say("machine outside of the cluster. All are network namespaces; all packets are real.");
    let lab = Lab::build()?;
    let mut servers = Vec::new();
    for (host, port, protocol) in SERVERS {
        servers.push(Server::start(lab.host(host), host, Family::V4, port, protocol)?);
    }
    let metrics = Server::start(lab.host(P3), P3, Family::V4, 9153, Protocol::Tcp)?;
    let agent = Agent::new(&lab, "demo")?;
    let mut story = Story { lab, agent, servers };
    story.starts()?;
    story.two_services_of_one_name()?;
    story.options()?;
    story.named_port()?;
    story.dns()?;
    story.pods_come_and_go()?;
    story.refusals()?;
    story.shows_all()?;
    drop(metrics);
    story.ends()
}

struct Story {
    lab: Lab,
    agent: Agent,
    servers: Vec<Server>,
}

impl Story {
    fn starts(&mut self) -> Step {
        title("The agent starts on the manifests of manifests/demo");
        for entry in fs::read_dir(MANIFESTS)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if Path::new(name).extension().is_some_and(|extension| extension == "yaml") {
                self.agent.save(name, &fs::read_to_string(&path)?)?;
            }
        }
        let start = Instant::now();
        self.agent.start()?;
        say(&format!("synced {} ms after its start", start.elapsed().as_millis()));
        say(&self.agent.synced_line().unwrap_or_default());
        Ok(())
    }

    fn two_services_of_one_name(&self) -> Step {
        title("Two Services named `ent`, in namespaces dev and prod, each with its own pods");
        self.asks("dev/ent ", P2, ENT, &[P1, P3], 6)?;
        self.asks("prod/ent", P2, "10.96.0.21:80/tcp", &[P2, P4], 6)
    }

    fn options(&self) -> Step {
        title("Options: annotations of prod/ent, and what `ipvsadm -Ln` then shows");
        let text = fs::read_to_string(Path::new(MANIFESTS).join("ent-prod.yaml"))?;
        for (annotation, scheduler) in [
            ("", "rr"),
            ("kube-ipvs.io/locality-weights: node=3", "wrr"),
            ("kube-ipvs.io/scheduler: mh", "mh"),
            ("", "rr"),
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
            say(if annotation.is_empty() { "without annotations" } else { annotation });
            shown()?.lines().skip(2).for_each(|line| say(&format!("  {line}")));
        }
        Ok(())
    }

    fn named_port(&self) -> Step {
        title("test-svc: port 80 leads to `web-port`, which is 8080 in two pods, 9090 in a third");
        self.asks("from a pod  ", P2, "10.96.0.30:80/tcp", &[P1, P3, P4], 6)?;
        self.asks("from a node ", N1, "10.96.0.30:80/tcp", &[P1, P3, P4], 6)?;
        self.asks("from outside", C, "10.96.0.30:80/tcp", &[P1, P3, P4], 6)?;
        self.asks("over IPv6   ", P2, "[fd00:96::30]:80/tcp", &[P1, P3], 4)
    }

    fn dns(&self) -> Step {
        title("kube-dns: 53/UDP (asked with real DNS queries), 53/TCP and 9153/TCP");
        for address in ["10.96.0.10:53/udp", "10.96.0.10:53/tcp", "10.96.0.10:9153/tcp"] {
            self.asks("from a pod ", P1, address, &[P2, P3], 4)?;
        }
        self.asks("from a node", N1, "10.96.0.10:53/udp", &[P2, P3], 4)
    }

    /// Clients loop while a pod ends and another one is added.
    fn pods_come_and_go(&mut self) -> Step {
        title("Pods come and go while clients on a pod, on the node and outside ask all the time");
        let loads = [P2, N1, C].map(|client| {
            Load::start(self.lab.host(client), client, vec![address(ENT)], Duration::ZERO)
        });
        loads[0].wait_for(20);

        let file = self.agent.manifests().join(ENT_FILE);
        let text = fs::read_to_string(&file)?;
        let leaving = text.replacen(
            "ready: true, serving: true, terminating: false",
            "ready: false, serving: true, terminating: true",
            1,
        );
        self.edit("P1 is told to end: its endpoint turns to terminating", &leaving, |lines| {
            !lines.contains(&real_server(P1, 3000, 1))
        })?;
        // The process ends once it has answered what it was asked before.
        loads.iter().for_each(|load| load.wait_for(3));
        self.servers.remove(0);
        say("P1's server ends");
        loads[0].wait_for(20);

        let block = "  - addresses: [10.244.2.14]\n    conditions: { ready: true, serving: true, terminating: false }\n    nodeName: n2\n";
        let first = leaving.find("  - addresses: [10.244.1.11]").unwrap_or_default();
        let second = leaving.find("  - addresses: [10.244.2.13]").unwrap_or_default();
        let gone = format!("{}{}", &leaving[..first], &leaving[second..]);
        self.edit("P1's endpoint is removed and P4's added", &format!("{gone}{block}"), |lines| {
            lines.contains(&real_server(P4, 3000, 1))
        })?;
        loads[0].wait_for(20);

        for load in loads {
            let report = load.stop();
            say(&report.to_string());
            if !report.failures.is_empty() {
                return Err(Failure::new(
                    "a client asks all the time",
                    "no failed request",
                    report,
                ));
            }
        }
        self.asks("dev/ent", P2, ENT, &[P3, P4], 4)
    }

    fn refusals(&self) -> Step {
        title("What nobody serves is refused at once, and never reaches a process of the node");
        for (client, to) in
            [(P2, "10.96.0.20:81/tcp"), (N1, "10.96.0.20:81/udp"), (C, "10.96.0.20:22/tcp")]
        {
            let start = Instant::now();
            let answer = ask(self.lab.host(client), address(to), PATIENCE);
            refused(&format!("{client} asks {to}"), start, answer.map(|reply| reply.to_string()))?;
        }
        for client in [P2, N1, C] {
            let start = Instant::now();
            let answer = ping(self.lab.host(client), address(ENT).ip, PATIENCE);
            let answer = answer.map(|()| "an echo reply".to_owned());
            refused(&format!("{client} pings {}", address(ENT).ip), start, answer)?;
        }
        Ok(())
    }

    fn shows_all(&self) -> Step {
        title("ipvsadm -Ln");
        for line in self.lab.host(N1).read("ipvsadm", &["-Ln"])?.lines() {
            say(line);
        }
        Ok(())
    }

    fn ends(mut self) -> Step {
        title("The agent ends; `kube-ipvs cleanup` leaves nothing behind");
        self.agent.stop()?;
        let finished = self.agent.command("cleanup", &[])?;
        let left = self.lab.host(N1).read("ipvsadm", &["-Sn"])?;
        if finished.status != Some(0) || !left.is_empty() {
            return Err(Failure::new("kube-ipvs cleanup", "nothing left", left + &finished.stderr));
        }
        say("IPVS is empty");
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
        say(&format!("{label}  {step:<28} {sequence}"));
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
        say(&format!("{what}: in the kernel after {:.1} ms", took.as_secs_f64() * 1000.0));
        Ok(())
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

fn refused(step: &str, start: Instant, answer: Result<String, Silence>) -> Step {
    let got = match answer {
        Err(Silence::Refused) => {
            let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
            say(&format!("{step:<28} refused after {milliseconds:.1} ms"));
            return Ok(());
        }
        Err(silence) => silence.to_string(),
        Ok(answer) => answer,
    };
    Err(Failure::new(step, "refused", got))
}

fn address(text: &str) -> VirtualAddress {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn say(text: &str) {
    println!("   {text}");
}
