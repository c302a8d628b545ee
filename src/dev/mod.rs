//! The embedded demo: provider, objects, tour.
