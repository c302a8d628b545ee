//! What the commands and the demo share: where they write, and how they call a server.

pub mod http;
pub mod output;
