//! Certificates and keys as an operator would lay them down, good ones and others.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use domain::clock::Clock;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use server::TlsFiles;
use tempfile::TempDir;
use time::Duration;

/// A folder with a certificate and a key.
pub(super) struct Pair {
    folder: TempDir,
}

/// A new certificate for `localhost` and its key, both in PEM.
pub(super) struct Made {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) der: CertificateDer<'static>,
}

/// A certificate that is valid from and until so many days from now.
pub(super) fn made(from: i64, until: i64) -> Made {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let now = Clock::system().now();
    (params.not_before, params.not_after) = (now + Duration::days(from), now + Duration::days(until));
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Made { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

impl Pair {
    pub(super) fn empty() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.path("tls.crt"), key: self.path("tls.key") }
    }

    pub(super) fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        let _absent = std::fs::remove_file(&path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn lay(&self, certificate: &str, key: &str) {
        self.write("tls.crt", certificate, 0o644);
        self.write("tls.key", key, 0o600);
    }

    /// A good pair in the place of what was there.
    pub(super) fn renew(&self) -> CertificateDer<'static> {
        let made = made(-1, 90);
        self.lay(&made.certificate, &made.key);
        made.der
    }
}
