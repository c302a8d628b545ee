//! The laws of DESIGN §2 as properties, as far as the pure domain decides them.
//!
//! `world` holds a small universe, so that generated values often collide, and naive models that answer by
//! enumeration from the laws' text; the other files compare the domain with them, one file per group of laws.
//! `bodies` and `fuzzed` are apart: what the fuzz targets assert of bytes from outside, driven here by proptest.

#[cfg(test)]
#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
#[cfg(test)]
#[path = "properties/ceilings.rs"]
mod ceilings;
#[cfg(test)]
#[path = "properties/chains.rs"]
mod chains;
#[cfg(test)]
#[path = "properties/details.rs"]
mod details;
#[cfg(test)]
#[path = "properties/fuzzed.rs"]
mod fuzzed;
#[cfg(test)]
#[path = "properties/grants.rs"]
mod grants;
#[cfg(test)]
#[path = "properties/status.rs"]
mod status;
#[cfg(test)]
#[path = "properties/tenants.rs"]
mod tenants;
#[cfg(test)]
#[path = "properties/texts.rs"]
mod texts;
#[cfg(test)]
#[path = "properties/world.rs"]
mod world;
