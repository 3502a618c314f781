//! Servers of a probe's own: `serve` on the ground's installation, with the settings that the probe is about.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    caller::Caller,
    evidence::Failure,
    ground::{Ground, Serving},
    wire::{self, Throwaway},
};

/// Cheap limits that no probe meets by its own numbers.
pub const ROOMY: &str = "[limits]\nnetwork_per_minute = 10000000\nprincipal_per_minute = 10000000\n\
                         failures_per_minute = 10000000\nlinks_per_minute = 10000000\n";

/// Serves in the clear on the loopback address, with these settings beside the installation's own.
///
/// # Errors
/// `Unproven` where it does not serve.
pub async fn with(ground: &Ground, settings: &str) -> Result<Serving, Failure> {
    ground.serve(&ground.configuration(settings, ROOMY), &[]).await
}

/// A server that speaks TLS under a certificate of its own.
pub struct OverTls {
    /// The server.
    pub serving: Serving,
    /// Its certificate.
    pub certificate: Throwaway,
}

/// Serves over TLS, metrics too.
///
/// # Errors
/// `Unproven` where it does not serve.
pub async fn over_tls(ground: &Ground, settings: &str) -> Result<OverTls, Failure> {
    let certificate = wire::certificate()?;
    let folder = ground.folder("certificate")?;
    let (shown, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    fs::write(&shown, &certificate.certificate)?;
    fs::write(&key, &certificate.key)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let tables = format!("{ROOMY}{}", table(&shown, &key));
    let settings = format!("public_url = \"https://localhost\"\n{settings}");
    let serving = ground.serve(&ground.configuration(&settings, &tables), &[]).await?;
    Ok(OverTls { serving, certificate })
}

fn table(certificate: &Path, key: &Path) -> String {
    format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", certificate.display().to_string(), key.display().to_string())
}

impl OverTls {
    /// A caller who trusts its certificate's authority, without a credential.
    ///
    /// # Errors
    /// `Unproven` where it serves at no address.
    pub fn stranger(&self) -> Result<Caller, Failure> {
        let mut url = self.serving.url.clone();
        url.set_host(Some("localhost"))?;
        Ok(Caller::trusting(&url, None, Some(&self.certificate.authority)))
    }
}

/// An admin of the workspace that probes share, as a caller of another server of the same installation.
///
/// # Errors
/// `Unproven` where there is no such workspace.
pub async fn admin(ground: &Ground, stranger: &Caller) -> Result<Caller, Failure> {
    let key = ground.target().await?.admin.key().map(str::to_owned);
    Ok(stranger.with_key(&key.ok_or_else(|| Failure::unproven("the probe's workspace has no admin's key"))?))
}
