//! What the agent needs and does not get: one clear line, and an exit status.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{Case, case};
use crate::lab::Finished;
use crate::trial::{Step, Trial};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("without_the_capability", |t| {
            t.agent().stop()?;
            t.run_to_end("cleanup", &[])?;
            let ended = t.agent().run_under(&["setpriv", "--bounding-set=-net_admin"])?;
            one_clear_line(t, &ended, "NET_ADMIN")
        }),
        case("an_unknown_option", |t| {
            let ended = t.agent().bare_command(&["run", "--no-such-option"])?;
            t.exits_with("an unknown option", 2, &ended)?;
            t.check("names it", ended.stderr.contains("--no-such-option"), &ended.stderr)
        }),
    ];
    // Takes the module from the whole machine for a moment, so not from a developer's.
    if std::env::var_os("KUBE_IPVS_IN_VM").is_some() {
        cases.push(case("without_the_module", |t| {
            t.agent().stop()?;
            t.run_to_end("cleanup", &[])?;
            unload_ipvs()?;
            let loader = std::fs::read_to_string("/proc/sys/kernel/modprobe")?;
            std::fs::write("/proc/sys/kernel/modprobe", "/bin/false")?;
            let ended = t.agent().run_under(&[]);
            std::fs::write("/proc/sys/kernel/modprobe", loader)?;
            Command::new("modprobe").arg("ip_vs").output()?;
            one_clear_line(t, &ended?, "ip_vs")
        }));
    }
    cases
}

/// The first line on standard error names what is missing; the exit status is 1.
fn one_clear_line(t: &Trial<'_>, ended: &Finished, what: &str) -> Step {
    t.exits_with("the agent", 1, ended)?;
    let mut errors = ended.stderr.lines().filter(|line| line.starts_with("kube-ipvs: "));
    let line = errors.next().unwrap_or_default();
    t.check(&format!("an error that names {what}"), line.contains(what), &ended.stderr)
}

/// Unloads `ip_vs` and the schedulers on top of it.
///
/// The virtual servers of labs that have ended hold their schedulers until the kernel has taken
/// down the namespaces, which it does in its own time.
fn unload_ipvs() -> Step {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let modules = std::fs::read_to_string("/proc/modules")?;
        let loaded = modules.lines().filter_map(|line| line.split(' ').next());
        let (mut base, mut above): (Vec<&str>, Vec<&str>) =
            loaded.filter(|name| name.starts_with("ip_vs")).partition(|name| *name == "ip_vs");
        above.append(&mut base);
        if above.is_empty() {
            return Ok(());
        }
        let output = Command::new("rmmod").args(above).output()?;
        if Instant::now() > deadline {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(std::io::Error::other(format!("rmmod: {}", why.trim())).into());
        }
        if !output.status.success() {
            thread::sleep(Duration::from_millis(200));
        }
    }
}
