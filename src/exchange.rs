//! The use case: one token exchange, top to bottom (DESIGN §4).
