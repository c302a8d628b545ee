//! Wiring: builds store, keys, policy, issuers and use cases, and owns the tasks.
