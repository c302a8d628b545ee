//! Integration tests: one binary, one file per capability.

#[cfg(test)]
mod act;
#[cfg(test)]
mod administration;
#[cfg(test)]
mod apply;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod assertions;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod bundles;
#[cfg(test)]
mod candidate;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod data;
#[cfg(test)]
mod details;
#[cfg(test)]
mod dev;
#[cfg(test)]
#[path = "../openapi/document.rs"]
mod document;
#[cfg(test)]
mod envelopes;
#[cfg(test)]
mod events;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod generation;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod introspection;
#[cfg(test)]
mod jwt;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lockdown;
#[cfg(test)]
mod login;
#[cfg(test)]
mod mode;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod proposals;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod pruning;
#[cfg(test)]
mod rego;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod starter_bundles;
#[cfg(test)]
mod status;
#[cfg(test)]
mod store;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod wire;
#[cfg(test)]
mod workloads;
