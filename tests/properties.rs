//! The laws of DESIGN §2 as properties.
