//! What the commands and the demo share: where they write and what of it is safe to show, and how they call a server.

pub mod escape;
pub mod http;
pub mod output;
