//! Integration tests: one binary, one file per capability.

#[cfg(test)]
mod apply;
#[cfg(test)]
mod dev;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod store;
#[cfg(test)]
mod support;
