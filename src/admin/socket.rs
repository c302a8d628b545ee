//! The Unix socket in the data folder: whoever may open it administers the server.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use thiserror::Error;
use tokio::net::{UnixListener, UnixSocket};

/// Longest path of a Unix socket, in bytes: `sun_path` holds 108, a zero included (unix(7)).
pub const MAX_PATH: usize = 107;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// Why the admin socket cannot be used.
#[derive(Debug, Error)]
pub enum SocketFault {
    /// The path does not fit into a socket address.
    #[error(
        "the path of the admin socket has {length} bytes, a Unix socket takes at most {MAX_PATH}: \
         choose a shorter data folder than `{}`",
        path.parent().unwrap_or(path).display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// A server answers on the socket.
    #[error("another server answers on the admin socket `{}`", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has its name.
    #[error("`{}` is in the way of the admin socket and is no socket: remove it", .0.display())]
    InTheWay(PathBuf),
    /// The system refused.
    #[error("the admin socket `{}` cannot be used: {why}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        why: io::Error,
    },
}

/// Whether `path` fits into a socket address.
pub fn check_length(path: &Path) -> Result<(), SocketFault> {
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_PATH { Err(SocketFault::TooLong { path: path.to_owned(), length }) } else { Ok(()) }
}

/// A bound admin socket; its file goes with the value.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind it does no harm: the next start sees that nobody answers.
        let _ = fs::remove_file(&self.0);
    }
}

impl AdminSocket {
    /// Binds the socket at `path`. The caller holds the lock of the data folder, so that a socket on which nobody
    /// answers is a left-over.
    pub fn bind(path: &Path) -> Result<Self, SocketFault> {
        check_length(path)?;
        let failed = |why| SocketFault::Io { path: path.to_owned(), why };
        remove_left_over(path)?;
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(path).map_err(failed)?;
        let file = SocketFile(path.to_owned());
        // Before `listen` every connection is refused: nobody gets in under the mode that the umask left.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// Serves until `shutdown`, then lets running requests finish and removes the socket.
    pub async fn serve(
        self,
        router: Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let service = router.into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(self.listener, service).with_graceful_shutdown(shutdown).await;
        drop(self.file);
        served
    }
}

fn remove_left_over(path: &Path) -> Result<(), SocketFault> {
    let failed = |why| SocketFault::Io { path: path.to_owned(), why };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketFault::InTheWay(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketFault::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The account at the other end of the socket, as the system vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    uid: Option<u32>,
}

impl Peer {
    /// This process's own account.
    pub fn own() -> Self {
        let credentials = tokio::net::UnixStream::pair().and_then(|(one, _other)| one.peer_cred());
        Self { uid: credentials.ok().map(|credentials| credentials.uid()) }
    }

    /// The account as the log names it.
    pub fn account(self) -> String {
        self.uid.map_or_else(|| "uid unknown".to_owned(), |uid| format!("uid {uid}"))
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_may_open_the_socket_and_it_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(AdminSocket::bind(&path), Err(SocketFault::InUse(_))));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_left_over_is_replaced_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(AdminSocket::bind(&path).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketFault::InTheWay(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_told() {
        let path = Path::new("/tmp").join("x".repeat(120)).join("admin.sock");
        let error = AdminSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("at most 107") && error.contains("shorter data folder"), "{error}");
    }
}
