//! What holds for any objects, in any order, on any kernel.

mod audits;
mod convergence;
mod endpoint_set;
mod incremental;
mod no_gap;
mod owners;
mod settings;

/// So many cases, or as many as `PROPTEST_CASES` says. No file keeps those that failed: a failure
/// prints its smallest input.
fn cases(cases: u32) -> proptest::test_runner::Config {
    let config = proptest::test_runner::Config { failure_persistence: None, ..Default::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => proptest::test_runner::Config { cases, ..config },
    }
}
