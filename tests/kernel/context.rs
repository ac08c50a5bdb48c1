//! The context of a case: what its steps can do, and how a step fails.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs::client::AgentClient;
use kube_ipvs_core::model::{Family, VirtualAddress};

use crate::expectation::{Answers, Expectation};
use crate::lab::{
    Agent, Connection, Finished, Flow, Host, KernelListing, Lab, Load, LoadReport, Manifest,
    Namespace, Notifications, PATIENCE, Reply, SHORT_PATIENCE, Silence, ask, ipvs_rules, node,
    ping, service_cidr,
};

/// How long something may take that the agent does by itself after a while.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(60);
/// Wait between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The pause between two requests of a steady load.
const STEADY_PAUSE: Duration = Duration::from_millis(100);

/// Tries again and again, until it works or the time is up.
pub(crate) fn patiently<T>(patience: Duration, mut attempt: impl FnMut() -> Step<T>) -> Step<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
            tried => return tried,
        }
    }
}

/// What a step of a case returns.
pub(crate) type Step<T = ()> = Result<T, Failure>;

/// Why a case failed.
#[derive(Debug)]
pub(crate) struct Failure {
    step: String,
    expected: String,
    got: String,
    state: String,
}

impl Failure {
    /// A step that met with something else than it expected.
    pub(crate) fn new(
        step: impl fmt::Display,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        let state = String::new();
        Self { step: step.to_string(), expected: expected.to_string(), got: got.to_string(), state }
    }

    /// The failure in one line.
    pub(crate) fn in_short(&self) -> String {
        let got = self.got.lines().next().unwrap_or_default();
        format!("{}: expected {}, got {got}", self.step, self.expected)
    }

    /// The failure, with what the node's state was then, in lines.
    pub(crate) fn with_state(self, state: &str) -> Self {
        Self { state: state.to_owned(), ..self }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new("the lab", "works", error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, expected, got, state } = self;
        write!(f, "  step      {step}\n  expected  {expected}\n  got       {got}\n{state}")
    }
}

/// What a case works with: the lab, and an agent on `n1` that is started at the first need.
pub(crate) struct TestContext<'a> {
    lab: &'a Lab,
    agent: &'a mut Agent,
    applied: Vec<Manifest>,
}

impl<'a> TestContext<'a> {
    /// A context with an agent whose manifests directory holds nodes and service ranges alone.
    pub(crate) fn new(lab: &'a Lab, agent: &'a mut Agent) -> io::Result<Self> {
        agent.forget_configuration()?;
        for object in [
            node(Host::N1).into(),
            node(Host::N2).into(),
            service_cidr("kubernetes", &["10.96.0.0/12", "fd00:96::/108"]).into(),
        ] {
            agent.apply(&object)?;
        }
        Ok(Self { lab, agent, applied: Vec::new() })
    }

    // ---- objects

    /// Creates or changes an object.
    pub(crate) fn apply(&mut self, object: impl Into<Manifest>) -> Step {
        let object = object.into();
        self.agent.apply(&object)?;
        self.applied.retain(|other| other.file() != object.file());
        self.applied.push(object);
        Ok(())
    }

    /// Deletes an object that was applied before.
    pub(crate) fn delete(&mut self, object: impl Into<Manifest>) -> Step {
        let file = object.into().file();
        let index = self.applied.iter().position(|other| other.file() == file);
        let object = self.applied.remove(index.expect("an object that was applied"));
        Ok(self.agent.delete(&object)?)
    }

    /// Starts the agent if it is not running, and waits until the kernel holds what the objects
    /// say.
    pub(crate) fn settled(&mut self) -> Step {
        let result = match self.agent.is_running() {
            true => self.agent.settled(),
            false => self.agent.start().and_then(|()| self.agent.settled()),
        };
        result.map_err(|error| Failure::new("wait for the agent", "synced", error))
    }

    // ---- traffic

    /// Makes requests from a host to `ADDR:PORT/PROTOCOL` and compares what they meet with.
    ///
    /// Answers from several servers are asked for twice as often as there are servers, and on until
    /// each has answered: clients in step with each other may meet the same server for a while.
    pub(crate) fn expect(&self, from: Host, to: &str, expectation: impl Into<Expectation>) -> Step {
        let expectation = expectation.into();
        let address = parse(to);
        let namespace = self.lab.host(from);
        let step = format!("{from} asks {to}");
        match &expectation {
            Expectation::Answers(answers) => {
                self.expect_answers(&step, namespace, address, answers)
            }
            Expectation::Refused | Expectation::Silence => {
                let is_refusal = matches!(expectation, Expectation::Refused);
                let patience = if is_refusal { PATIENCE } else { SHORT_PATIENCE };
                let wanted = if is_refusal { Silence::Refused } else { Silence::TimedOut };
                // What a process of the node sends into a filter is not sent at all.
                let is_dropped_here = !is_refusal && from == Host::N1;
                match ask(namespace, address, patience) {
                    Err(silence) if silence == wanted => Ok(()),
                    Err(Silence::Forbidden) if is_dropped_here => Ok(()),
                    Err(silence) => Err(Failure::new(step, expectation, silence)),
                    Ok(reply) => Err(Failure::new(step, expectation, reply)),
                }
            }
        }
    }

    fn expect_answers(
        &self,
        step: &str,
        namespace: &Namespace,
        to: VirtualAddress,
        answers: &Answers,
    ) -> Step {
        let mut missing = answers.servers.clone();
        let mut seen = Vec::new();
        let expected = || Expectation::from(answers.clone());
        let (least, most) = (2 * answers.servers.len(), 20 * answers.servers.len());
        while seen.len() < least || (!missing.is_empty() && seen.len() < most) {
            let reply = ask(namespace, to, PATIENCE).map_err(|silence| {
                Failure::new(step, expected(), format!("{silence}, after {} answers", seen.len()))
            })?;
            if !answers.accept(&reply) {
                return Err(Failure::new(step, expected(), reply));
            }
            missing.remove(&reply.server);
            seen.push(reply.to_string());
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(step, expected(), seen.join("; "))),
        }
    }

    /// Pings an address, which has to be refused.
    pub(crate) fn expect_ping_refused(&self, from: Host, ip: &str) -> Step {
        match self.ping(from, ip) {
            Err(Silence::Refused) => Ok(()),
            Err(silence) => Err(Failure::new(format!("{from} pings {ip}"), "refused", silence)),
            Ok(()) => Err(Failure::new(format!("{from} pings {ip}"), "refused", "an echo reply")),
        }
    }

    /// Pings an address, which has to answer.
    pub(crate) fn expect_ping_answered(&self, from: Host, ip: &str) -> Step {
        let pinged = self.ping(from, ip);
        pinged.map_err(|silence| Failure::new(format!("{from} pings {ip}"), "an answer", silence))
    }

    fn ping(&self, from: Host, ip: &str) -> Result<(), Silence> {
        ping(self.lab.host(from), ip.parse().expect("an IP address"), PATIENCE)
    }

    /// Makes one request, which has to be answered.
    pub(crate) fn ask(&self, from: Host, to: &str) -> Step<Reply> {
        ask(self.lab.host(from), parse(to), PATIENCE)
            .map_err(|silence| Failure::new(format!("{from} asks {to}"), "an answer", silence))
    }

    /// Opens a socket for datagrams.
    pub(crate) fn flow(&self, from: Host, to: &str) -> Step<Flow> {
        self.flow_from(from, 0, to)
    }

    /// The same, at a port of the client's choice, which other sockets may have too.
    pub(crate) fn flow_from(&self, from: Host, port: u16, to: &str) -> Step<Flow> {
        Flow::open(self.lab.host(from), port, parse(to))
            .map_err(|silence| Failure::new(format!("{from} opens a socket"), "works", silence))
    }

    /// Opens a socket that receives datagrams and answers none.
    pub(crate) fn receiver(&self, host: Host, family: Family, port: u16) -> Step<UdpSocket> {
        let at = (host.ip(family), port);
        let socket = self.lab.host(host).inside(|| UdpSocket::bind(at))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// Sends on a socket until a server answers, as clients go on trying.
    pub(crate) fn eventually_answers(&self, flow: &Flow, server: Host, which: &str) -> Step {
        patiently(LONG_PATIENCE, || match flow.ask() {
            Ok(reply) if reply.server == server => Ok(()),
            Ok(reply) => Err(Failure::new(which, server, reply)),
            Err(silence) => Err(Failure::new(which, server, silence)),
        })
    }

    /// Opens a connection that stays open.
    pub(crate) fn connect(&self, from: Host, to: &str) -> Step<Connection> {
        self.connect_from(from, self.lab.host(from).client_port(), to)
    }

    /// The same, from a port of the client's choice, which other connections may have too.
    pub(crate) fn connect_from(&self, from: Host, port: u16, to: &str) -> Step<Connection> {
        let open = || Connection::open(self.lab.host(from), port, parse(to));
        let deadline = Instant::now() + PATIENCE;
        // The port is taken for a moment where the client has closed an earlier one first.
        let mut opened = open();
        while matches!(&opened, Err(Silence::Other(_))) && Instant::now() < deadline {
            thread::sleep(PAUSE);
            opened = open();
        }
        opened.map_err(|silence| {
            let step = format!("{from} connects to {to} from port {port}");
            Failure::new(step, "an answer", silence)
        })
    }

    /// Makes a request over a connection opened before.
    pub(crate) fn expect_answer(&self, connection: &mut Connection, which: &str) -> Step<Reply> {
        connection.ask().map_err(|silence| Failure::new(which, "an answer", silence))
    }

    /// The same over each of several connections, with what each is.
    pub(crate) fn still_answer(&self, open: &mut [(String, Connection)]) -> Step {
        open.iter_mut().try_for_each(|(which, open)| self.expect_answer(open, which).map(drop))
    }

    /// As [`TestContext::expect`], where nothing tells when it will be so. Prefer [`TestContext::settled`].
    pub(crate) fn eventually(&self, from: Host, to: &str, answers: Answers) -> Step {
        patiently(PATIENCE, || self.expect(from, to, answers.clone()))
    }

    /// Waits until what IPVS holds, as `ipvsadm -Sn` prints it, is as it should be.
    pub(crate) fn eventually_held(&self, step: &str, holds: impl Fn(&str) -> bool) -> Step {
        patiently(LONG_PATIENCE, || {
            let held = ipvs_rules(self.lab.host(Host::N1))?;
            self.check(step, holds(&held), held)
        })
    }

    /// Starts a client that asks again and again.
    pub(crate) fn load(&self, from: Host, to: &str) -> Load {
        self.load_in_turn(from, &[to])
    }

    /// Starts a client that asks one address after the other, and never stops.
    pub(crate) fn load_in_turn(&self, from: Host, to: &[&str]) -> Load {
        let addresses = to.iter().map(|to| parse(to)).collect();
        Load::start(self.lab.host(from), from, addresses, Duration::ZERO)
    }

    /// As [`TestContext::load`], but leaves an emulated machine time for what else is to be done.
    pub(crate) fn steady_load(&self, from: Host, to: &str) -> Load {
        Load::start(self.lab.host(from), from, vec![parse(to)], STEADY_PAUSE)
    }

    /// Ends such a client, none of whose requests may have failed.
    pub(crate) fn expect_no_failure(&self, load: Load) -> Step {
        self.expect_lost_at_most(load, 0)
    }

    /// Ends such a client; none of its requests may have failed since then, or at all.
    pub(crate) fn expect_no_failure_since(&self, load: Load, since: Option<Instant>) -> Step {
        let mut report = load.stop();
        report.failures.retain(|failed| since.is_none_or(|since| failed.during.end > since));
        self.lost_at_most(report, 0)
    }

    /// Ends a load; at most so many of its requests may have failed.
    pub(crate) fn expect_lost_at_most(&self, load: Load, most: usize) -> Step {
        self.lost_at_most(load.stop(), most)
    }

    fn lost_at_most(&self, report: LoadReport, most: usize) -> Step {
        if report.failures.len() <= most && report.requests() > 0 {
            return Ok(());
        }
        let expected = match most {
            0 => "no failed request".to_owned(),
            most => format!("at most {most} failed requests"),
        };
        Err(Failure::new("clients ask all the time", &expected, report))
    }

    // ---- the agent, its commands and the kernel

    /// The agent under test.
    pub(crate) fn agent(&mut self) -> &mut Agent {
        self.agent
    }

    /// A host's namespace.
    pub(crate) fn host(&self, host: Host) -> &Arc<Namespace> {
        self.lab.host(host)
    }

    /// Runs a command on the objects of this case.
    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> Step<Finished> {
        Ok(self.agent.command(name, arguments)?)
    }

    /// Runs a command that has to succeed, and gives what it prints.
    pub(crate) fn run_to_end(&self, name: &str, arguments: &[&str]) -> Step<String> {
        let finished = self.agent.command(name, arguments)?;
        if finished.status == Some(0) {
            return Ok(finished.stdout);
        }
        Err(Failure::new(format!("kube-ipvs {name}"), "exit status 0", format!("{finished:#?}")))
    }

    /// The agent's metrics.
    pub(crate) fn metrics(&self) -> Step<String> {
        self.answer_of_agent("/metrics")
    }

    /// What the agent answers to a path at its metrics address.
    pub(crate) fn answer_of_agent(&self, path: &str) -> Step<String> {
        let answer = self.host(Host::N1).inside(|| {
            let address = "127.0.0.1:10249".parse().expect("address");
            AgentClient::new(address).get(path).map_err(io::Error::other)
        })?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// What the kernel of `n1` holds.
    pub(crate) fn kernel(&self) -> Step<KernelListing> {
        Ok(KernelListing::read(self.lab.host(Host::N1))?)
    }

    /// Listens to changes of the kernel of `n1`.
    pub(crate) fn notifications(&self) -> Step<Notifications> {
        Ok(Notifications::listen(self.lab.host(Host::N1))?)
    }

    /// Compares two values.
    pub(crate) fn equal<T: PartialEq + fmt::Display>(
        &self,
        step: &str,
        expected: T,
        got: T,
    ) -> Step {
        if expected == got { Ok(()) } else { Err(Failure::new(step, expected, got)) }
    }

    /// Compares an exit status.
    pub(crate) fn exits_with(&self, step: &str, status: i32, finished: &Finished) -> Step {
        self.check(
            &format!("{step}: exit status {status}"),
            finished.status == Some(status),
            format!("{finished:#?}"),
        )
    }

    /// Compares texts of many lines; the failure names the lines that differ.
    pub(crate) fn same_lines(&self, step: &str, expected: &str, got: &str) -> Step {
        if expected == got {
            return Ok(());
        }
        let only = |left: &str, right: &str| {
            let lines = left.lines().filter(|line| !right.lines().any(|other| other == *line));
            lines.map(|line| format!("\n    {line}")).collect::<String>()
        };
        let (missing, extra) = (only(expected, got), only(got, expected));
        Err(Failure::new(step, format!("also{missing}"), format!("instead{extra}")))
    }

    /// A condition that has to hold.
    pub(crate) fn check(&self, step: &str, holds: bool, got: impl fmt::Display) -> Step {
        if holds { Ok(()) } else { Err(Failure::new(step, "to be so", got)) }
    }

    /// Deletes the objects of this case. A running agent has to leave the kernel without them.
    pub(crate) fn finish(mut self) -> Step {
        for object in std::mem::take(&mut self.applied) {
            self.agent.delete(&object)?;
        }
        if self.agent.is_running() {
            self.settled()?;
        }
        self.leave()
    }

    /// Waits until what the case has left has left, or the next case would find it.
    fn leave(&mut self) -> Step {
        let is_left = |t: &Self| -> Step<bool> {
            let routes = ["-4", "-6"].map(|family| {
                t.host(Host::N1)
                    .read("ip", &[family, "route", "show", "table", "local", "proto", "75"])
            });
            let [v4, v6] = routes;
            Ok(!(v4?.is_empty() && v6?.is_empty()))
        };
        if !is_left(self)? {
            return Ok(());
        }
        // No connection keeps it any more. An agent that starts does not know of former ones.
        self.host(Host::N1).read("conntrack", &["-F"])?;
        self.agent.forget_configuration()?;
        self.agent.stop()?;
        self.settled()?;
        patiently(LONG_PATIENCE, || self.check("nothing is left", !is_left(self)?, "routes"))
    }
}

/// Reads `ADDR:PORT/PROTOCOL`.
fn parse(to: &str) -> VirtualAddress {
    to.parse().unwrap_or_else(|error| panic!("{error}"))
}
