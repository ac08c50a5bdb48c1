//! What a node's kernel should hold, by topic: each case names objects, and who gets where.

mod affinity;
mod changes;
mod endpoints;
mod frontends;
mod health_checks;
mod hints;
mod masquerade;
mod nobody;
mod options;
mod owners;
mod policies;
mod reachable;
mod selection;
mod source_ranges;
mod stored;
mod web;
