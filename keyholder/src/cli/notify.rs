//! Tells the service manager how this process stands: a datagram to the socket that it named (`sd_notify(3)`).
//!
//! Says nothing where nobody asked, and never waits: what the manager does not hear it finds out by itself.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Ready to serve.
pub(super) const READY: &str = "READY=1";
/// No new requests are taken.
pub(super) const STOPPING: &str = "STOPPING=1";

/// The manager's ear, where there is one.
pub(super) struct Manager(Option<SocketAddr>);

impl Manager {
    /// The socket that the manager named: a path, or an abstract name after `@`.
    pub(super) fn at(named: Option<&OsStr>) -> Self {
        let address = named.and_then(|named| match named.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name).ok(),
            Some((b'/', _)) => SocketAddr::from_pathname(named).ok(),
            _ => None,
        });
        Self(address)
    }

    /// Says how the process stands.
    pub(super) fn tell(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        if let Err(error) = send(address, state) {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

fn send(address: &SocketAddr, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_by_a_path_and_by_an_abstract_name_and_nobody_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let named = format!("keyholder-notify-{}", std::process::id());
        let table = [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().to_owned()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&named).unwrap()).unwrap(),
                format!("@{named}").into(),
            ),
        ];
        for (ear, name) in table {
            let manager = Manager::at(Some(&name));
            manager.tell(READY);
            manager.tell(STOPPING);
            for wanted in [READY, STOPPING] {
                let mut heard = [0; 32];
                let length = ear.recv(&mut heard).unwrap();
                assert_eq!(&heard[..length], wanted.as_bytes(), "{}", name.display());
            }
        }
        for name in [None, Some(OsStr::new("")), Some(OsStr::new("relative")), Some(OsStr::new("/nowhere/at/all"))] {
            Manager::at(name).tell(READY);
        }
    }
}
