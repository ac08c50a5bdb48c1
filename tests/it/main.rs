//! Tests of the library's public parts, without a kernel: a program of their own would be linked for
//! each module otherwise.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::disallowed_types)]

#[path = "../api/mod.rs"]
mod api;
mod architecture;
mod canary;
mod chart;
#[path = "../common/mod.rs"]
mod common;
mod completions;
mod components;
mod contested;
mod corpora;
mod desired;
mod documents;
mod engine_updates;
mod first_steps;
mod install_pages;
mod kubectl_plugin;
mod kubernetes_types;
mod kustomize;
mod log;
mod manifests;
mod migration;
mod notices;
mod page;
mod plans;
mod promises;
mod properties;
mod reference;
mod release;
mod shown;
mod source_decode;
mod source_kubernetes;
mod source_manifests;
mod start_order;
mod status;
