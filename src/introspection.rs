//! The use case: token introspection (RFC 7662).
