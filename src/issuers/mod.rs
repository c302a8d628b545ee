//! Trusted issuers: discovery, key sets, session tokens.
