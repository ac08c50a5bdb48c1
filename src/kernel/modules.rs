//! Kernel modules that Services need.
//!
//! This program needs no `modprobe`: the kernel loads each module itself at its first use. It runs
//! the node's own `modprobe` in the node's own file system, also for a container. The look-up of
//! IPVS's generic netlink family loads IPVS, the first virtual server with a scheduler loads the
//! scheduler, the first nfnetlink message loads nf_tables, the first rule with an expression loads
//! the expression, and the creation of our device loads `dummy`.
//!
//! The kernel restarts a transaction after loading a module for one of its expressions, and before
//! Linux 5.16 the look-up does not find IPVS's module. So absent modules are requested by name
//! beforehand. That takes CAP_SYS_MODULE, which the init container has and the agent lacks.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::PathBuf;

use kube_ipvs_core::model::{Carry, Scheduler};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use rustix::thread::{CapabilitySet, capabilities};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// With underscores.
    pub name: String,
    pub purpose: Cow<'static, str>,
}

impl Module {
    #[must_use]
    pub fn of_scheduler(scheduler: Scheduler, purpose: impl Into<Cow<'static, str>>) -> Self {
        Self { name: format!("ip_vs_{scheduler}"), purpose: purpose.into() }
    }

    #[must_use]
    pub fn command(&self) -> String {
        format!("modprobe {}", self.name)
    }
}

const FIXED: [(&str, &str); 16] = [
    ("ip_vs", "balancing"),
    ("nf_conntrack", "connection tracking"),
    ("nf_conntrack_netlink", "moving UDP clients off a deleted endpoint"),
    ("nf_tables", "masquerading and refusals"),
    ("nft_chain_nat", "masquerading"),
    ("nft_ct", "masquerading"),
    ("nft_fib_ipv4", "telling this node's addresses from others"),
    ("nft_fib_ipv6", "telling this node's addresses from others"),
    ("nft_masq", "masquerading"),
    ("nft_nat", "traffic policy Local"),
    ("nft_reject_ipv4", "refusing connections to services without endpoints"),
    ("nft_reject_ipv6", "refusing connections to services without endpoints"),
    ("nft_socket", "keeping stray segments from ending connections"),
    ("tcp_diag", "knowing which ports the node itself listens at"),
    ("udp_diag", "knowing which ports the node itself listens at"),
    ("dummy", "telling other software that IPVS serves here"),
];

/// The modules of `carry: offload`. Before Linux 5.17 there are two more, named after the families.
const OFFLOADING: [(&str, &str); 3] = [
    ("nf_flow_table_inet", "carry offload"),
    ("nft_flow_offload", "carry offload"),
    ("nft_numgen", "carry offload"),
];

/// Returns the modules for this scheduler and this carry mode.
#[must_use]
pub fn needed(scheduler: Scheduler, carry: &Carry) -> Vec<Module> {
    let offloading = matches!(carry, Carry::Offload(_));
    let fixed = FIXED.iter().chain(OFFLOADING.iter().filter(|_| offloading));
    let fixed = fixed
        .map(|(name, purpose)| Module { name: (*name).to_owned(), purpose: (*purpose).into() });
    fixed.chain([Module::of_scheduler(scheduler, "the configured scheduler")]).collect()
}

/// Makes the kernel load the absent modules, if this process has CAP_SYS_MODULE. A module with a
/// longer name than a network device can have is loaded at its first use.
pub fn load_needed(scheduler: Scheduler, carry: &Carry) {
    let sets = capabilities(None);
    if !sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_MODULE)) {
        return;
    }
    let Ok(modules) = Modules::read() else { return };
    let absent = |module: &Module| modules.presence(module) != Presence::Running;
    let absent = needed(scheduler, carry).into_iter().filter(absent);
    absent.for_each(|module| load(&module.name));
}

/// Makes the kernel load a module, if this process has CAP_SYS_MODULE: the kernel tries the name of
/// an absent network device as the name of a module (`dev_load` in `net/core/dev_ioctl.c`). The
/// result shows only when the module is used.
pub(super) fn load(name: &str) {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let _ = socket.and_then(|socket| netdevice::name_to_index(socket, name));
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// In the running kernel, as a module or built in.
    Running,
    /// On disk: the kernel loads it at its first use.
    Loadable,
    /// Neither: requests that need it fail.
    Missing,
    /// Not in the running kernel as far as visible, and the node's module directory is not visible
    /// here, as in most containers.
    Unknown,
}

/// Finds modules in the running kernel and in the module directory.
///
/// `/proc/modules` lists loaded modules, `/sys/module` also built-in modules with parameters, and
/// `/lib/modules/<release>` all other built-in and loadable modules.
#[derive(Debug)]
pub struct Modules {
    loaded: Vec<String>,
    sys_module: PathBuf,
    built_in: Option<Vec<String>>,
    on_disk: Option<Vec<String>>,
}

impl Modules {
    /// Reads the lists of modules.
    ///
    /// # Errors
    ///
    /// If `/proc/modules` cannot be read; a kernel without modules counts as one with none loaded.
    pub fn read() -> io::Result<Self> {
        let directory = release_directory(&super::release());
        Self::read_from("/proc/modules".into(), "/sys/module".into(), directory)
    }

    fn read_from(proc: PathBuf, sys_module: PathBuf, directory: PathBuf) -> io::Result<Self> {
        let loaded = match fs::read_to_string(proc) {
            Ok(text) => text.lines().filter_map(first_word).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let built_in = fs::read_to_string(directory.join("modules.builtin"))
            .map(|text| text.lines().map(name_of_path).collect())
            .or_else(|_| {
                fs::read(directory.join("modules.builtin.modinfo"))
                    .map(|bytes| names_of_modinfo(&String::from_utf8_lossy(&bytes)))
            })
            .ok();
        let on_disk = fs::read_to_string(directory.join("modules.dep"))
            .map(|text| {
                text.lines().filter_map(|l| l.split_once(':')).map(|l| name_of_path(l.0)).collect()
            })
            .ok();
        Ok(Self { loaded, sys_module, built_in, on_disk })
    }

    #[must_use]
    pub fn presence(&self, module: &Module) -> Presence {
        let has = |names: &[String]| names.contains(&module.name);
        if has(&self.loaded)
            || self.built_in.as_deref().is_some_and(has)
            || self.sys_module.join(&module.name).exists()
        {
            return Presence::Running;
        }
        match &self.on_disk {
            Some(names) if has(names) => Presence::Loadable,
            Some(_) => Presence::Missing,
            None => Presence::Unknown,
        }
    }
}

/// Returns `/lib/modules/<release>`, or `/usr/lib/modules/<release>` if only that exists.
fn release_directory(release: &str) -> PathBuf {
    let [usual, merged] =
        ["/lib/modules", "/usr/lib/modules"].map(|p| PathBuf::from(p).join(release));
    if !usual.exists() && merged.exists() { merged } else { usual }
}

fn first_word(line: &str) -> Option<String> {
    line.split_whitespace().next().map(str::to_owned)
}

/// Returns the name of a module: `ip_vs_rr` for `kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz`. The
/// kernel treats `-` as `_`.
fn name_of_path(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// Returns the module names in `modules.builtin.modinfo`: entries `name.key=value`, each ended by
/// NUL.
fn names_of_modinfo(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .split('\0')
        .filter_map(|entry| entry.split_once('.'))
        .map(|(name, _)| name.replace('-', "_"))
        .collect();
    names.dedup();
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn module(name: &str) -> Module {
        Module { name: name.to_owned(), purpose: "".into() }
    }

    #[test]
    fn a_scheduler_and_a_flowtable_have_modules_of_their_own() {
        let names = |carry: &Carry| -> Vec<String> {
            let needed = needed(Scheduler::Mh, carry);
            needed.into_iter().map(|module| module.name).collect()
        };
        let has = |names: &[String], name| names.iter().any(|it| it == name);
        let plain = names(&Carry::All);
        assert!(has(&plain, "ip_vs") && has(&plain, "ip_vs_mh"));
        assert!(!has(&plain, "nft_flow_offload"));
        assert!(has(&names(&Carry::Offload(Vec::new())), "nft_flow_offload"));
    }

    #[test]
    fn the_documentation_names_all() {
        let text = include_str!("../../docs/compatibility.md");
        for module in needed(Scheduler::Rr, &Carry::Offload(Vec::new())) {
            let names = [format!("\n{}\n", module.name), format!("`{}`", module.name)];
            assert!(names.iter().any(|name| text.contains(name)), "{module:?}");
        }
    }

    #[test]
    fn presence_is_told_from_each_place() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("modules"), "ip_vs 196608 2 ip_vs_rr, Live 0x0\n").unwrap();
        fs::create_dir_all(root.join("sys/nf_conntrack")).unwrap();
        fs::write(root.join("modules.builtin"), "kernel/drivers/net/dummy.ko\n").unwrap();
        fs::write(root.join("modules.dep"), "kernel/net/netfilter/nft-masq.ko.xz: a b\n").unwrap();
        let read = |disk: PathBuf| {
            Modules::read_from(root.join("modules"), root.join("sys"), disk).unwrap()
        };
        let modules = read(root.to_owned());
        assert_eq!(modules.presence(&module("ip_vs")), Presence::Running);
        assert_eq!(modules.presence(&module("nf_conntrack")), Presence::Running);
        assert_eq!(modules.presence(&module("dummy")), Presence::Running);
        assert_eq!(modules.presence(&module("nft_masq")), Presence::Loadable);
        assert_eq!(modules.presence(&module("nft_ct")), Presence::Missing);
        let modules = read(root.join("nowhere"));
        assert_eq!(modules.presence(&module("nft_ct")), Presence::Unknown);
    }

    #[test]
    fn built_in_names_come_from_modinfo_too() {
        let text = "dummy.license=GPL\0dummy.author=x.y\0nf-tables.license=GPL\0";
        assert_eq!(names_of_modinfo(text), ["dummy", "nf_tables"]);
    }
}
