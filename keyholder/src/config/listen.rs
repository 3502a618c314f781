//! The settings of listening: where, with which certificate, for how many.

use std::{fs, net::SocketAddr};

use server::{Listen, ServerOptions, TlsError, TlsFiles, refuse_clear};
use url::Url;

use super::resolve::Resolver;

impl Resolver {
    /// The certificate's two files, judged but for the hour: there is no clock here.
    ///
    /// A pair with faults is still one, so that nothing is said of addresses that it would be for.
    pub(super) fn tls(&mut self) -> Option<TlsFiles> {
        let files = match (self.text("tls.certificate"), self.text("tls.key")) {
            (None, None) => return None,
            (Some((origin, certificate)), Some((key_origin, key))) => {
                let files = TlsFiles { certificate: certificate.into(), key: key.into() };
                if let Err(error) = files.check() {
                    let of_key = match &error {
                        TlsError::Unreadable { path, .. } | TlsError::TooLarge(path) => *path == files.key,
                        TlsError::OpenToOthers(_) | TlsError::NoKey(_) | TlsError::Mismatched { .. } => true,
                        _ => false,
                    };
                    // The certificate was judged first: a key that is not there is told with it, and not after it.
                    if !of_key && let Err(unread) = fs::File::open(&files.key) {
                        let what = format!("{} cannot be read: {unread}", files.key.display());
                        self.gathered.fault(key_origin.clone(), what);
                    }
                    self.gathered.fault(if of_key { key_origin } else { origin }, error.to_string());
                }
                return Some(files);
            }
            (Some((origin, path)), None) => (origin, path, "tls.key"),
            (None, Some((origin, path))) => (origin, path, "tls.certificate"),
        };
        let (origin, path, missing) = files;
        self.gathered.fault(origin, format!("is set, and `{missing}` is not: they are needed together"));
        Some(TlsFiles { certificate: path.clone().into(), key: path.into() })
    }

    pub(super) fn listen(&mut self, name: &str, usual: SocketAddr, has_certificate: bool) -> Listen {
        let wanted =
            "an address with a port, such as 127.0.0.1:8080, or unix: and an absolute path of at most 106 bytes";
        let listen = self.parsed(name, wanted, |_: &Listen| true);
        if let (Some(listen), Some((origin, _))) = (&listen, self.text(name))
            && let Err(error) = refuse_clear(listen, has_certificate)
        {
            self.gathered.fault(origin, error.to_string());
        }
        listen.unwrap_or(Listen::Tcp(usual))
    }

    pub(super) fn listens_differ(&mut self, listen: &Listen, metrics: &Listen) {
        let any = matches!(listen, Listen::Tcp(addr) if addr.port() == 0);
        if listen == metrics && !any {
            self.gathered.fault("metrics_listen", format!("{metrics} is what `listen` is, too"));
        }
    }

    /// Whoever is served over TLS is told so (RFC 6797), and that hangs on the public address.
    pub(super) fn public_url_fits(&mut self, public_url: Option<&Url>, listen: &Listen, has_certificate: bool) {
        let over_tls = has_certificate && matches!(listen, Listen::Tcp(_));
        if let (Some(url), Some((origin, _))) = (public_url, self.text("public_url"))
            && over_tls
            && url.scheme() != "https"
        {
            self.gathered.fault(origin, "is not https, and `listen` is served over TLS");
        }
    }

    /// How many connections there may be; the times are not for setting.
    pub(super) fn server(&mut self) -> ServerOptions {
        let usual = ServerOptions::default();
        let mut number = |name: &str, usual: u32| {
            let rule = |number: &u32| (1..=60_000).contains(number);
            self.parsed(name, "a number from 1 to 60000", rule).unwrap_or(usual)
        };
        ServerOptions {
            connections: number("limits.connections", usual.connections),
            network_connections: number("limits.network_connections", usual.network_connections),
            ..usual
        }
    }
}
