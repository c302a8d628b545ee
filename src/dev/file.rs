//! `dev.json`: everything a script needs to use a running demo. It exists only while all listeners accept.

mod declared;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::declared::Declared;
use super::cast::{self, Person};
use super::fault::DevFault;
use super::place::admin_url;
use super::secrets::Secrets;
use super::{private, provider, shell};
use crate::domain::objects::{ApprovalSpec, DelegationSpec, Object, Role, Selector};

/// Its name in the data folder.
pub const FILE: &str = "dev.json";

/// Name of the file in the data folder with the secret of the admins' console.
const CONSOLE_SECRET: &str = "console.secret";

const EXAMPLES: &str = include_str!("examples.json");

/// The content of `dev.json`. URLs and paths are absolute. No `Debug`: it holds passwords and secrets.
#[derive(Serialize, Deserialize)]
pub struct DevFile {
    /// Version of this form: 1. Members may be added to it.
    pub version: u32,
    /// The server's `iss`.
    pub issuer: String,
    /// Token exchange.
    pub token_endpoint: String,
    /// Introspection, for resources and agents.
    pub introspection_endpoint: String,
    /// Revocation, for agents.
    pub revocation_endpoint: String,
    /// The keys to verify tokens with.
    pub jwks_uri: String,
    /// The demo tenant.
    pub tenant: String,
    /// The admin API.
    pub admin: Admin,
    /// Where users sign in.
    pub identity_provider: IdentityProvider,
    /// The users on whose behalf agents work.
    pub principals: Vec<User>,
    /// The agents.
    pub agents: Vec<AgentClient>,
    /// The resources.
    pub resources: Vec<ResourceClient>,
    /// Who approves.
    pub approver: Approver,
    /// What agents may be given.
    pub task_types: Vec<TaskTypeEntry>,
    /// Requests, and how each ends.
    pub examples: Vec<Example>,
}

/// Where the admin API is.
#[derive(Serialize, Deserialize)]
pub struct Admin {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Its URL, where it listens on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What admins work through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<Console>,
    /// Who administers, signed in at the identity provider.
    #[serde(default)]
    pub administrators: Vec<Administrator>,
}

/// The client that admins work through.
#[derive(Clone, Serialize, Deserialize)]
pub struct Console {
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: String,
    /// A file with it, for `--client-secret-file`.
    pub client_secret_file: PathBuf,
}

/// Somebody who administers.
#[derive(Clone, Serialize, Deserialize)]
pub struct Administrator {
    /// User name.
    pub username: String,
    /// What they may do.
    pub roles: Vec<Role>,
}

/// The demo identity provider. Its metadata names its page, on which admins sign in.
#[derive(Serialize, Deserialize)]
pub struct IdentityProvider {
    /// Its `iss`.
    pub issuer: String,
    /// Takes `grant_type=password` without client authentication.
    pub token_endpoint: String,
    /// The client whose session tokens the demo agents may spend; the default there.
    pub client_id: String,
}

/// A user.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    /// User name, and `sub`.
    pub username: String,
    /// Password.
    pub password: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// An agent.
#[derive(Clone, Serialize, Deserialize)]
pub struct AgentClient {
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: String,
    /// Its class.
    pub class: String,
}

/// A resource.
#[derive(Clone, Serialize, Deserialize)]
pub struct ResourceClient {
    /// Its name, for `audience`.
    pub name: String,
    /// Its URI, for `resource`, and the `aud` of tokens for it.
    pub uri: String,
    /// The scopes it knows.
    pub scopes: Vec<String>,
    /// Client id, for introspection.
    pub client_id: String,
    /// Client secret.
    pub client_secret: String,
}

/// The user who approves, and the client they do it with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Approver {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: String,
}

/// A task type, as declared.
#[derive(Clone, Serialize, Deserialize)]
pub struct TaskTypeEntry {
    /// Its name.
    pub name: String,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Scopes when a root request names none.
    pub default_scopes: Vec<String>,
    /// Names of its resources.
    pub resources: Vec<String>,
    /// Who may start it: `class:NAME` or `agent:CLIENT_ID`.
    pub agents: Vec<Selector>,
    /// Who may be handed a token.
    pub delegation: DelegationSpec,
    /// When a person must approve.
    pub approval: ApprovalSpec,
}

/// A request to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// The agent that asks.
    pub client_id: String,
    /// The user on whose behalf.
    pub username: String,
    /// The kind of task: sent only when the subject is a session token, since a narrower token stays in its task.
    pub task_type: String,
    /// `scope`.
    pub scope: String,
    /// The example whose token is the subject token; the user's session token when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `granted`, or the OAuth error code.
    pub expect: String,
    /// The `reason_code` of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
}

/// The examples that come with the demo.
pub(super) fn examples() -> Vec<Example> {
    serde_json::from_str(EXAMPLES).unwrap_or_default()
}

impl DevFile {
    /// Describes the demo at `public_url`, with what is declared for its tenant in `objects`.
    pub(super) fn describe(public_url: &str, socket: PathBuf, secrets: &Secrets, objects: &[Object]) -> Self {
        let at = |path: &str| format!("{public_url}{path}");
        let declared = Declared::read(objects, secrets);
        Self {
            version: 1,
            issuer: public_url.to_owned(),
            token_endpoint: at("/oauth/token"),
            introspection_endpoint: at("/oauth/introspect"),
            revocation_endpoint: at("/oauth/revoke"),
            jwks_uri: at("/oauth/jwks"),
            tenant: cast::TENANT.to_owned(),
            admin: Admin {
                url: secrets.admin.map(admin_url),
                console: secrets.client(cast::ADMIN_CONSOLE).map(|secret| Console {
                    client_id: cast::ADMIN_CONSOLE.to_owned(),
                    client_secret: secret.to_owned(),
                    client_secret_file: socket.with_file_name(CONSOLE_SECRET),
                }),
                administrators: declared.administrators,
                socket,
            },
            identity_provider: IdentityProvider {
                issuer: at(provider::PATH),
                token_endpoint: at(&format!("{}/token", provider::PATH)),
                client_id: cast::APP.to_owned(),
            },
            principals: cast::PRINCIPALS.iter().map(|person| user(person, secrets)).collect(),
            agents: declared.agents,
            resources: declared.resources,
            approver: Approver {
                username: cast::APPROVER.name.to_owned(),
                password: secrets.password(cast::APPROVER.name).to_owned(),
                client_id: cast::CONSOLE.to_owned(),
                client_secret: secrets.client(cast::CONSOLE).unwrap_or_default().to_owned(),
            },
            task_types: declared.task_types,
            examples: examples(),
        }
    }

    /// Reads the file that a running demo wrote.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Writes the file into the data folder, for its owner only, and tells where it is. The file that it names comes first.
    pub(super) fn save(&self, data: &Path) -> Result<PathBuf, DevFault> {
        let (path, secret) = (data.join(FILE), data.join(CONSOLE_SECRET));
        let write = |path: &Path, text: &str| {
            private::write(path, text).map_err(|why| DevFault::File {
                action: "write",
                path: path.to_owned(),
                why,
            })
        };
        if let Some(console) = &self.admin.console {
            write(&secret, &format!("{}\n", console.client_secret))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let text = text.map_err(|why| DevFault::File { action: "write", path: path.clone(), why })?;
        write(&path, &format!("{text}\n"))?;
        Ok(path)
    }
}

/// Removes the file, its like for shells and the console's secret from the data folder, if they are there.
pub(super) fn remove(data: &Path) -> Result<(), DevFault> {
    for path in [FILE, shell::FILE, CONSOLE_SECRET].map(|name| data.join(name)) {
        private::remove(&path).map_err(|why| DevFault::File { action: "remove", path, why })?;
    }
    Ok(())
}

fn user(person: &Person, secrets: &Secrets) -> User {
    User {
        username: person.name.to_owned(),
        password: secrets.password(person.name).to_owned(),
        groups: person.groups.iter().map(|&g| g.to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::demo_objects;
    use super::*;
    use crate::clock::Random;

    fn demo() -> DevFile {
        let mut secrets = Secrets::new("127.0.0.1:8080".parse().unwrap());
        secrets.complete(&Random::default());
        DevFile::describe("http://127.0.0.1:8080", "/data/admin.sock".into(), &secrets, &demo_objects())
    }

    #[test]
    fn it_tells_who_plays_and_with_which_secrets() {
        let file = demo();
        let agents: Vec<_> = file.agents.iter().map(|a| a.client_id.as_str()).collect();
        assert_eq!(agents, cast::AGENTS);
        assert_eq!((file.resources.len(), file.principals.len(), file.task_types.len()), (3, 3, 6));
        assert!(file.agents.iter().all(|a| a.client_secret.starts_with("tgs_")));
        assert!(file.principals.iter().all(|p| !p.password.is_empty()));
        let administer: Vec<_> = file.admin.administrators.iter().map(|a| a.username.as_str()).collect();
        assert_eq!(administer, ["carol", "dana"]);
        let secret_file = file.admin.console.unwrap().client_secret_file;
        assert_eq!(secret_file, Path::new("/data/console.secret"));
        assert_eq!(file.identity_provider.token_endpoint, "http://127.0.0.1:8080/idp/token");
    }

    #[test]
    fn the_examples_name_only_what_exists() {
        let file = demo();
        assert!(file.examples.len() >= 5);
        for (index, example) in file.examples.iter().enumerate() {
            assert!(file.agents.iter().any(|a| a.client_id == example.client_id), "{example:?}");
            assert!(file.principals.iter().any(|p| p.username == example.username), "{example:?}");
            assert!(file.task_types.iter().any(|t| t.name == example.task_type), "{example:?}");
            let earlier = |name: &String| file.examples[..index].iter().any(|e| e.name == *name);
            assert!(example.subject.as_ref().is_none_or(earlier), "{example:?}");
            assert_eq!(example.expect == "granted", example.reason_code.is_none(), "{example:?}");
        }
    }

    #[test]
    fn it_reads_back_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = demo().save(folder.path()).unwrap();
        assert_eq!(DevFile::read(&path).unwrap().examples, examples());
        remove(folder.path()).unwrap();
        assert!(!path.exists());
    }
}
