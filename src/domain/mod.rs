//! The pure core: values and laws; no I/O, no clock.
