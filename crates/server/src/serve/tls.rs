//! TLS on our side: the certificate and its key, read from two files, judged, and read again when they change.
//!
//! A pair that is not fit to be shown never takes the place of one that is. A private key never leaves this module, neither into an
//! error nor into a log line.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use domain::clock::Clock;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// The largest certificate or key file, in bytes.
const MOST_FILE_BYTES: u64 = 256 * 1024;
/// How often the files are looked at again.
const EVERY: Duration = Duration::from_secs(5);
/// How long before its end a certificate is spoken of.
const SOON: time::Duration = time::Duration::days(14);

/// The two files of a certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those between it and its root.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// What is wrong with a certificate or its key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why, in words.
        reason: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any certificate.
    #[error("{0} has more than {MOST_FILE_BYTES} bytes")]
    TooLarge(PathBuf),
    /// Everybody on the machine can read the key.
    #[error("{0} holds a private key and can be read by others: chmod o= {0}")]
    OpenToOthers(PathBuf),
    /// There is no certificate in the file, or something else than one.
    #[error("{0} holds no certificate in PEM form")]
    NoCertificate(PathBuf),
    /// There is no private key in the file, or one of a kind that TLS does not take.
    #[error("{0} holds no private key in PEM form that TLS could use")]
    NoKey(PathBuf),
    /// They do not belong together.
    #[error("the key {key} is not that of the certificate {certificate}")]
    Mismatched {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate's time has not come.
    #[error("the certificate {path} is not valid before {from}: is the clock right?")]
    NotYetValid {
        /// Its file.
        path: PathBuf,
        /// From when on it is.
        from: OffsetDateTime,
    },
    /// The certificate's time is over.
    #[error("the certificate {path} has expired at {until}")]
    Expired {
        /// Its file.
        path: PathBuf,
        /// Until when it was valid.
        until: OffsetDateTime,
    },
    /// The library refuses the settings.
    #[error("TLS cannot be set up")]
    Library(#[source] rustls::Error),
}

/// A pair that fits, whatever the hour.
struct Pair {
    key: Arc<CertifiedKey>,
    from: OffsetDateTime,
    until: OffsetDateTime,
    /// Of both files' bytes: tells a change, and nothing of the key.
    fingerprint: u64,
}

impl TlsFiles {
    /// Judges all of the files but the hour.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TlsError> {
        self.read().map(drop)
    }

    /// From when until when the certificate is valid, with all but the hour judged.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validity(&self) -> Result<(OffsetDateTime, OffsetDateTime), TlsError> {
        self.read().map(|pair| (pair.from, pair.until))
    }

    fn read(&self) -> Result<Pair, TlsError> {
        let (certificate, key) = (read(&self.certificate)?, read(&self.key)?);
        refuse_open_key(&self.key)?;
        let mut hasher = DefaultHasher::new();
        (&*certificate, &*key).hash(&mut hasher);
        let no_certificate = || TlsError::NoCertificate(self.certificate.clone());
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>().map_err(|_| no_certificate())?;
        let (from, until) = chain.first().and_then(validity).ok_or_else(no_certificate)?;
        let no_key = || TlsError::NoKey(self.key.clone());
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| no_key())?;
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|_| no_key())?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match()
            .map_err(|_| TlsError::Mismatched { certificate: self.certificate.clone(), key: self.key.clone() })?;
        Ok(Pair { key: Arc::new(key), from, until, fingerprint: hasher.finish() })
    }

    fn refuse_wrong_hour(&self, pair: &Pair, now: OffsetDateTime) -> Result<(), TlsError> {
        let path = || self.certificate.clone();
        if now < pair.from {
            Err(TlsError::NotYetValid { path: path(), from: pair.from })
        } else if now > pair.until {
            Err(TlsError::Expired { path: path(), until: pair.until })
        } else {
            Ok(())
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |source: io::Error| {
        let reason = match source.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not".to_owned(),
            _ => source.to_string(),
        };
        TlsError::Unreadable { path: path.to_owned(), reason, source }
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    File::open(path).and_then(|file| file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MOST_FILE_BYTES { Err(TlsError::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

/// The private key is for the owner of its file, and a group where one is given.
fn refuse_open_key(path: &Path) -> Result<(), TlsError> {
    let open = fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
    if open { Err(TlsError::OpenToOthers(path.to_owned())) } else { Ok(()) }
}

/// From when to when a certificate is valid (RFC 5280 §4.1.2.5).
fn validity(certificate: &CertificateDer<'_>) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}

/// The certificate that new connections are shown.
pub struct Certificates {
    files: TlsFiles,
    current: RwLock<Pair>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

impl Certificates {
    /// Reads and judges the files for the first time.
    ///
    /// # Errors
    /// The first thing that is wrong with them, the hour included.
    pub fn load(files: TlsFiles, clock: &Clock) -> Result<Arc<Self>, TlsError> {
        let pair = files.read()?;
        files.refuse_wrong_hour(&pair, clock.now())?;
        Ok(Arc::new(Self { files, current: RwLock::new(pair) }))
    }

    /// TLS 1.2 and 1.3 with this certificate, whichever it is then. No client is asked for a certificate, no early data is taken, and
    /// nothing of a session is kept outside this process.
    ///
    /// # Errors
    /// `Library`, where it refuses what it offers itself.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
        let certificates: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = builder.map_err(TlsError::Library)?.with_no_client_auth().with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// Until when the certificate in use is valid.
    fn until(&self) -> OffsetDateTime {
        self.current.read().unwrap_or_else(PoisonError::into_inner).until
    }

    /// Takes the files as they are now, if they have changed and are fit. `true`: new connections are shown another certificate.
    ///
    /// # Errors
    /// What is wrong with them; the pair in use stays.
    fn reload(&self, now: OffsetDateTime) -> Result<bool, TlsError> {
        let pair = self.files.read()?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if pair.fingerprint == current.fingerprint {
            return Ok(false);
        }
        self.files.refuse_wrong_hour(&pair, now)?;
        *current = pair;
        Ok(true)
    }

    /// Looks at the files every few seconds, and whenever it is hinted at, for as long as the process serves.
    pub async fn keep_fresh(self: Arc<Self>, clock: Clock, hint: Arc<Notify>) {
        let mut told = Told::default();
        loop {
            // The files may lie on a disk that hangs.
            let (here, now) = (Arc::clone(&self), clock.now());
            let reloaded = tokio::task::spawn_blocking(move || here.reload(now)).await;
            match reloaded {
                Ok(Ok(true)) => {
                    tracing::info!(until = %self.until(), "a new TLS certificate is in use");
                    told = Told::default();
                }
                Ok(Ok(false)) => told.fault = None,
                Ok(Err(error)) => told.refused(&error),
                Err(_) => {}
            }
            told.age(self.until(), clock.now());
            let _hint_or_time = tokio::time::timeout(EVERY, hint.notified()).await;
        }
    }
}

/// What was said already, so that it is said once.
#[derive(Default)]
struct Told {
    fault: Option<String>,
    soon: bool,
    over: bool,
}

impl Told {
    fn refused(&mut self, error: &TlsError) {
        let fault = error.to_string();
        if self.fault.as_ref() != Some(&fault) {
            metrics::counter!("keyholder_tls_reload_failures_total").increment(1);
            tracing::error!(error = fault, "the new TLS certificate is refused; the former stays in use");
            self.fault = Some(fault);
        }
    }

    fn age(&mut self, until: OffsetDateTime, now: OffsetDateTime) {
        let left = until - now;
        metrics::gauge!("keyholder_tls_certificate_expires_seconds").set(left.as_seconds_f64());
        if left <= time::Duration::ZERO {
            if !std::mem::replace(&mut self.over, true) {
                tracing::error!(%until, "the TLS certificate has expired: clients will refuse it");
            }
        } else if left < SOON && !std::mem::replace(&mut self.soon, true) {
            tracing::warn!(%until, "the TLS certificate expires soon");
        }
    }
}
