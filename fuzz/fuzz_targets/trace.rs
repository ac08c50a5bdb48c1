#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kube_ipvs_fuzz::run("trace", data));
