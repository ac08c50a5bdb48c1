//! The cost of programming a kernel: each figure with a baseline of the same run, in separate
//! network namespaces. Requires root and a kernel with IPVS.
//!
//! Prints a table. An argument selects the measurements whose names contain it. The text between
//! the lines `BEGIN json` and `END json` is for `target/bench.json`.

#![allow(clippy::disallowed_types, reason = "it runs the agent, `ip`, `nft` and others")]

mod agent;
#[path = "../../tests/api/mod.rs"]
mod api;
#[path = "../cluster/mod.rs"]
mod cluster;
mod common {
    pub(crate) use crate::objects;
}
mod data_path;
mod decode;
mod figure;
mod memory;
mod namespace;
#[allow(dead_code, unreachable_pub, reason = "the benches use a part of it")]
#[path = "../../tests/common/objects.rs"]
mod objects;
mod processor;
mod sync;
mod tracking;
mod work;

use figure::Figure;
use kube_ipvs::kernel::ipvs::Ipvs;
use mimalloc::MiMalloc;
use serde_json::Value;

/// As in the agent.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Each figure is the best of this many rounds.
const ROUNDS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Returns the median.
fn median(mut figures: Vec<f64>) -> Result<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().ok_or_else(|| "nothing was measured".into())
}

/// The name and the function of a measurement.
type Measurement = (&'static str, fn() -> Result<Vec<Figure>>);

const MEASUREMENTS: [Measurement; 12] = [
    ("decode", decode::slices),
    ("cold_start", sync::cold_start),
    ("one_change", sync::one_changes),
    ("burst", sync::burst),
    ("restart", sync::restart),
    ("eject", sync::eject),
    ("data_path", data_path::exchanges),
    ("rss", memory::resident),
    ("churn_cpu", processor::shares),
    ("watched", processor::watchers),
    ("delete_then_add", sync::delete_then_add),
    ("count", tracking::counts),
];

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    // `cargo bench` passes Criterion's flags, which are ignored.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let [memory::ARGUMENT, name] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return memory::hold(name);
    }
    if let Err(error) = namespace::on_node(|| Ok(Ipvs::open()?)) {
        println!("kernel: skipped: {error}");
        return Ok(());
    }
    println!("| name | what | ours | baseline | ratio |");
    println!("|---|---|---|---|---|");
    let mut all = Vec::new();
    for (name, measure) in MEASUREMENTS {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let figures = measure().map_err(|error| format!("{name}: {error}"))?;
        figures.iter().for_each(|figure| println!("{figure}"));
        all.extend(figures);
    }
    let json: Vec<Value> = all.iter().map(Figure::json).collect();
    println!("BEGIN json\n{}\nEND json", serde_json::to_string_pretty(&json)?);
    Ok(())
}
