//! `dev.env`: what a shell calls the demo's server and clients, for whoever pastes commands. It comes and goes with
//! `dev.json`.

use std::collections::BTreeMap;
use std::path::Path;

use super::fault::DevFault;
use super::file::DevFile;
use super::private;

/// Its name in the data folder.
pub(super) const FILE: &str = "dev.env";

/// The variable with the server's URL.
pub(super) const SERVER: &str = "TG";

/// Variables with `id:secret`, and the client of each.
pub(super) const CLIENTS: [(&str, &str); 3] =
    [("SUPPORT", "support-agent"), ("WORKER", "order-worker"), ("ORDERS", "orders-service")];

/// Shell variables by name.
pub(super) type Variables = BTreeMap<&'static str, String>;

/// The variables of a demo.
pub(super) fn variables(demo: &DevFile) -> Variables {
    let agents = demo.agents.iter().map(|a| (&a.client_id, &a.client_secret));
    let clients: Vec<_> =
        agents.chain(demo.resources.iter().map(|r| (&r.client_id, &r.client_secret))).collect();
    let mut variables = Variables::from([(SERVER, demo.issuer.clone())]);
    for (name, id) in CLIENTS {
        let secret = clients.iter().find(|(known, _)| *known == id).map_or("", |(_, secret)| secret.as_str());
        variables.insert(name, format!("{id}:{secret}"));
    }
    variables
}

/// Writes them into the data folder, for its owner only.
pub(super) fn save(demo: &DevFile, data: &Path) -> Result<(), DevFault> {
    let path = data.join(FILE);
    let mut text = "# The running demo: its server, and clients as id:secret, for `curl -u`.\n".to_owned();
    text.extend(variables(demo).iter().map(|(name, value)| format!("{name}={}\n", quoted(value))));
    private::write(&path, &text).map_err(|why| DevFault::File { action: "write", path, why })
}

/// `text` as one word of a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
