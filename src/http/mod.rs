//! The public HTTP surface; axum lives here.
