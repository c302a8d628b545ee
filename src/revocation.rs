//! The use case: token revocation (RFC 7009).
