//! Runs component tests and cases, several at a time. Each case has a test bed to itself, which the next
//! case reuses.

use std::io;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kube_ipvs::kernel::route::has_ipv6;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::cases::{self, Case};
use crate::components::{self, Component};
use crate::context::{Step, TestContext};
use crate::lab::{Agent, Host, Lab, Namespace, ipvs_rules};
use crate::stock;

/// Tests that run at the same time unless `--test-threads` says otherwise. They mostly wait.
const AT_A_TIME: usize = 4;
/// How many of the slowest tests the summary names.
const SLOWEST: usize = 5;

/// The tests of such names, and no others, are for a kernel that was booted with `ipv6.disable=1`.
const WITHOUT_IPV6: &str = "without_ipv6_";

/// A lab and its agent.
struct TestBed {
    lab: Lab,
    agent: Agent,
}

/// Test beds that no case is using.
static IDLE: Mutex<Vec<TestBed>> = Mutex::new(Vec::new());
/// How long each test took.
static TIMES: Mutex<Vec<(Duration, &str)>> = Mutex::new(Vec::new());
/// What failed, a line each. The last lines of a run tell it again: they are what is kept of a long log.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs the selected tests, of all or of those for stock kernels. If some are `required`, it is a failure
/// to select none.
pub(crate) fn run(mut arguments: Arguments, only_stock: bool, required: bool) -> ExitCode {
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let (components, cases) = (components::all(), cases::all());
    let names = components.iter().map(|it| it.name).chain(cases.iter().map(|it| it.name));
    let unknown = stock::unknown(&names.collect::<Vec<_>>());
    assert!(unknown.is_empty(), "no such test: {unknown:?}");
    let fits = |name: &str| name.starts_with(WITHOUT_IPV6) != has_ipv6();
    let chosen = |name: &str| fits(name) && (!only_stock || stock::has(name));
    // A developer's own machine is left alone.
    let is_virtual = std::env::var_os("KUBE_IPVS_IN_VM").is_some();
    let (alone, together): (Vec<_>, Vec<_>) = components
        .into_iter()
        .filter(|component| chosen(component.name) && (is_virtual || !component.alone))
        .partition(|component| component.alone);
    let cases = cases.into_iter().filter(|case| chosen(case.name));
    let cases = cases.map(|case| test("case", case.name, move || run_case(&case)));
    let component = |it: Component| test("component", it.name, move || run_component(&it));
    let alone = alone.into_iter().map(component).collect();
    let together = together.into_iter().map(component).chain(cases).collect();

    // Tests that change the whole machine run first, while nothing else uses it.
    let one_by_one = Arguments { test_threads: Some(1), ..arguments.clone() };
    let outcomes =
        [libtest_mimic::run(&one_by_one, alone), libtest_mimic::run(&arguments, together)];
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let ran: u64 = outcomes.iter().map(|it| it.num_passed + it.num_failed).sum();
    if ran == 0 && required {
        println!("no test has such a name; --list names them all");
        return ExitCode::FAILURE;
    }
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    println!("tests on Linux {kernel}: {ran}; the slowest: {}", slowest());
    FAILURES.lock().unwrap().iter().for_each(|failure| println!("FAILED: {failure}"));
    if let Err(error) = end_agents() {
        println!("FAILED: an agent at its end: {error}");
        return ExitCode::FAILURE;
    }
    match outcomes.iter().any(libtest_mimic::Conclusion::has_failed) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// A test that records how long it takes.
fn test(kind: &str, name: &'static str, run: impl FnOnce() -> Step + Send + 'static) -> Trial {
    let timed = move || {
        let start = Instant::now();
        let result = run();
        TIMES.lock().unwrap().push((start.elapsed(), name));
        result.map_err(|failure| {
            FAILURES.lock().unwrap().push(format!("{name}: {}", failure.in_short()));
            Failed::from(failure)
        })
    };
    Trial::test(name, timed).with_kind(kind)
}

fn run_component(component: &Component) -> Step {
    let [namespace] = Namespace::create([component.name])?;
    namespace.inside(component.run);
    Ok(())
}

/// Runs a case in a test bed. After a failure or a panic the test bed is discarded.
fn run_case(case: &Case) -> Step {
    let idle = IDLE.lock().unwrap().pop();
    let mut bed = idle.map_or_else(TestBed::build, Ok)?;
    let TestBed { lab, agent } = &mut bed;
    let mut run = || {
        let mut context = TestContext::new(lab, agent)?;
        (case.run)(&mut context)?;
        context.finish()
    };
    match run() {
        Ok(()) => {
            // What still drains would be found by the next case.
            if ipvs_rules(bed.lab.host(Host::N1))?.is_empty() {
                IDLE.lock().unwrap().push(bed);
            } else {
                bed.agent.stop()?;
            }
            Ok(())
        }
        Err(failure) => Err(failure.with_state(&bed.state())),
    }
}

/// Stops the idle test beds' agents, which must end without an error.
fn end_agents() -> io::Result<()> {
    let idle = std::mem::take(&mut *IDLE.lock().unwrap());
    idle.into_iter().try_for_each(|mut bed| bed.agent.stop())
}

fn slowest() -> String {
    let mut times = TIMES.lock().unwrap();
    times.sort_unstable_by(|a, b| b.cmp(a));
    let slowest = times.iter().take(SLOWEST);
    let words = slowest.map(|(time, name)| format!("{name} {:.1} s", time.as_secs_f64()));
    words.collect::<Vec<_>>().join(", ")
}

impl TestBed {
    fn build() -> io::Result<Self> {
        let lab = Lab::build()?;
        let agent = Agent::new(&lab, "agent")?;
        Ok(Self { lab, agent })
    }

    /// What the kernel of the node holds, and the end of the agent's log.
    fn state(&self) -> String {
        let mut text = String::new();
        let mut show = |title: &str, lines: &str| {
            text.push_str(&format!("  --- {title}\n"));
            lines.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        };
        for line in [
            "ipvsadm -Ln",
            "nft list table ip kube-ipvs",
            "ip route show table all proto 75",
            "ip -6 route show table all proto 75",
        ] {
            let mut words = line.split(' ');
            let mut command = Command::new(words.next().unwrap_or_default());
            let output = self.lab.host(Host::N1).output(command.args(words));
            let shown = match &output {
                Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
                Err(error) => error.to_string(),
            };
            show(line, &shown);
        }
        let log = self.agent.log();
        let lines: Vec<&str> = log.lines().collect();
        show("the agent's log", &lines[lines.len().saturating_sub(40)..].join("\n"));
        text
    }
}
