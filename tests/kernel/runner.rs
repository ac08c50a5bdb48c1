//! Runs cases and component tests one after the other and reports.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Instant;

use crate::cases::{self, Case};
use crate::components::{self, Component};
use crate::lab::{Agent, Host, Lab, Namespace};
use crate::trial::{Failure, Step, Trial};

/// How it went.
pub(crate) struct Summary {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    kernel: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cases = self.passed + self.failed;
        writeln!(f, "{cases} cases ran on a real kernel, Linux {}", self.kernel)?;
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Summary {
    fn add(&mut self, name: &str, start: Instant, result: &Step) {
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name} ({seconds:.1} s)");
            }
            Err(failure) => {
                self.failed += 1;
                println!("FAILED  {name} ({seconds:.1} s)\n{failure}");
            }
        }
    }
}

/// The names of everything that can be run, in its order.
pub(crate) fn names() -> Vec<&'static str> {
    let components = components::all().into_iter().map(|component| component.name);
    components.chain(cases::all().into_iter().map(|case| case.name)).collect()
}

/// Runs what has one of `filters` in its name; all, if there are none.
pub(crate) fn run(filters: &[&str]) -> io::Result<Summary> {
    let chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut summary = Summary { passed: 0, failed: 0, kernel };
    for component in components::all().iter().filter(|component| chosen(component.name)) {
        let start = Instant::now();
        summary.add(component.name, start, &run_component(component));
    }
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| chosen(case.name)).collect();
    if !cases.is_empty() {
        run_cases(&cases, &mut summary)?;
    }
    Ok(summary)
}

fn run_component(component: &Component) -> Step {
    let [namespace] = Namespace::create([component.name])?;
    catch_unwind(AssertUnwindSafe(|| namespace.inside(component.run)))
        .map_err(|panic| Failure::new("the component test", "no panic", message(&*panic)))
}

fn run_cases(cases: &[Case], summary: &mut Summary) -> io::Result<()> {
    let start = Instant::now();
    let lab = Lab::build()?;
    println!("the lab is built ({:.1} s)", start.elapsed().as_secs_f64());
    let mut agent = Agent::new(&lab, "agent-0")?;
    for (number, case) in cases.iter().enumerate() {
        let start = Instant::now();
        let result = run_case(case, &lab, &mut agent);
        summary.add(case.name, start, &result);
        if result.is_err() {
            print_state(&lab, &agent);
            // The next case finds a clean node and an agent that knows nothing.
            drop(agent);
            wipe(&lab);
            agent = Agent::new(&lab, &format!("agent-{}", number + 1))?;
        }
    }
    agent.stop()
}

fn run_case(case: &Case, lab: &Lab, agent: &mut Agent) -> Step {
    let run = || {
        let mut trial = Trial::new(lab, agent)?;
        (case.run)(&mut trial)?;
        trial.finish()
    };
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(Failure::new("the case itself", "no panic", message(&*panic))))
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// Shows what the agent has left in the kernel, and its last words.
fn print_state(lab: &Lab, agent: &Agent) {
    let show = |program: &str, arguments: &[&str]| {
        println!("  --- {program} {}", arguments.join(" "));
        let text =
            lab.host(Host::N1).read(program, arguments).unwrap_or_else(|error| error.to_string());
        for line in text.lines() {
            println!("  {line}");
        }
    };
    show("ipvsadm", &["-Ln"]);
    show("nft", &["list", "table", "inet", "kube-ipvs"]);
    show("ip", &["route", "show", "table", "all", "dev", "kube-ipvs"]);
    show("ip", &["-6", "route", "show", "table", "all", "dev", "kube-ipvs"]);
    println!("  --- the agent's log");
    let log = agent.log();
    let lines: Vec<&str> = log.lines().collect();
    for line in &lines[lines.len().saturating_sub(40)..] {
        println!("  {line}");
    }
}

/// Takes away whatever a failed case may have left on the node.
fn wipe(lab: &Lab) {
    let node = lab.host(Host::N1);
    for line in ["ipvsadm -C", "nft flush ruleset", "ip link delete kube-ipvs"] {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        let _ = node.output(command.args(words));
    }
}
