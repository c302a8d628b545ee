//! The embedded demo: provider, objects, tour.

mod cast;
pub mod fault;
mod objects;
mod policies;
mod private;
pub mod provider;
mod secrets;
