//! The store: all SQL, the single writer included.
