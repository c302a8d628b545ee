//! Integration tests: one binary, one file per capability.

#[cfg(test)]
mod apply;
#[cfg(test)]
#[path = "../openapi/document.rs"]
mod document;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod store;
#[cfg(test)]
mod support;
