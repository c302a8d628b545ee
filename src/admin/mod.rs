//! The admin API: declarative objects in, snapshot out.
