//! Where a server listens: an address, or a Unix socket. Who may be answered in the clear is decided here, and nowhere else.
//!
//! Binding a Unix socket replaces what a dead process left behind, and never what a living one listens on.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use crate::guard::Peer;

/// The longest path of a Unix socket: `sun_path` of unix(7), less the zero at its end and what the name is longer by while it is made.
const MOST_PATH_BYTES: usize = 107 - MAKING.len();
/// What the socket's name ends with until it has its permissions.
const MAKING: &str = "~";

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address with a port; 0 is any that is free.
    Tcp(SocketAddr),
    /// A Unix socket at an absolute path.
    Unix(PathBuf),
}

impl Listen {
    /// Whether nobody but this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    /// What it should have been.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "an address with a port, such as 127.0.0.1:8080, or unix:/path");
        };
        let path = PathBuf::from(path);
        let fits = path.is_absolute() && path.file_name().is_some() && path.as_os_str().len() <= MOST_PATH_BYTES;
        if fits { Ok(Self::Unix(path)) } else { Err("unix: and an absolute path of at most 106 bytes") }
    }
}

/// A bound listener, on which nobody is answered yet.
pub struct Listener {
    socket: Socket,
    at: Listen,
}

enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// The file of a Unix socket: removed when nobody listens any more, unless another process has put its own there.
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Binds.
    ///
    /// # Errors
    /// `AddrInUse` where somebody listens there; `AlreadyExists` where the path is of something that is no socket; others as the
    /// system has them.
    pub async fn bind(to: &Listen) -> io::Result<Self> {
        match to {
            Listen::Tcp(addr) => {
                let socket = TcpListener::bind(addr).await?;
                let at = Listen::Tcp(socket.local_addr()?);
                Ok(Self { socket: Socket::Tcp(socket), at })
            }
            Listen::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                Ok(Self { socket: Socket::Unix { listener, _file: file }, at: to.clone() })
            }
        }
    }

    /// Where it listens, with the port that it really has.
    pub fn at(&self) -> &Listen {
        &self.at
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _best_effort = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Peer::Network(peer.ip().to_canonical())))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Local))
            }
        }
    }
}

/// Binds beside the path and links the socket there when it has its permissions: nobody finds it with others.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    make_room(path)?;
    let mut making = path.as_os_str().to_owned();
    making.push(MAKING);
    let making = PathBuf::from(making);
    make_room(&making)?;
    let listener = UnixListener::bind(&making)?;
    std::fs::set_permissions(&making, std::fs::Permissions::from_mode(0o660))?;
    let inode = std::fs::symlink_metadata(&making)?.ino();
    // Not a renaming, which would take the place of a socket that another start has made since.
    std::fs::hard_link(&making, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => io::ErrorKind::AddrInUse.into(),
        _ => error,
    })?;
    std::fs::remove_file(&making)?;
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// Removes the socket of a process that is gone.
fn make_room(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
    }
    match BlockingUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Whoever answers lives; so does one whose queue is full.
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A connection that was accepted.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Whether its first byte begins no handshake (RFC 8446 §5.1). Nothing of it is taken.
    pub(super) async fn begins_in_clear(&self) -> bool {
        let mut first = [0];
        match self {
            Self::Tcp(stream) => stream.peek(&mut first).await.is_ok_and(|bytes| bytes == 1 && first != [22]),
            Self::Unix(_) => false,
        }
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $does:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $does,
            Stream::Unix($stream) => $does,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_listen_is_an_address_or_a_socket() {
        for text in ["127.0.0.1:8080", "[::1]:0", "0.0.0.0:443", "unix:/run/keyholder/api.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "a".repeat(200));
        for text in ["", "8080", "localhost:8080", "unix:", "unix:api.sock", "unix:/", &long] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_answered_in_the_clear() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("127.1.2.3:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/run/a", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
            ("[::ffff:192.0.2.1]:1", false),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().is_local(), local, "{text}");
        }
    }
}
