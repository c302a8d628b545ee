//! Signing keys and JWS (RFC 7515).
