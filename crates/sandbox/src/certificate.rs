//! The throwaway certificate authority, and the one certificate that it signs.
//!
//! Both private keys are made at the start and never leave memory; the authority's is dropped as soon as it has signed, so
//! that trusting it trusts this one certificate and no later one.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};

use crate::{sandbox::SandboxError, world};

/// What a client must trust, and what the server serves with.
pub(crate) struct Identity {
    pub(crate) ca_der: CertificateDer<'static>,
    pub(crate) ca_pem: String,
    pub(crate) server: Arc<ServerConfig>,
}

/// Makes an authority and a certificate for exactly these names.
pub(crate) fn issue(names: &[String]) -> Result<Identity, SandboxError> {
    let not_before = time::OffsetDateTime::from(world::wall() - Duration::from_hours(24));
    let not_after = time::OffsetDateTime::from(world::wall() + Duration::from_hours(24 * 365));

    let mut ca = CertificateParams::new(Vec::new())?;
    ca.not_before = not_before;
    ca.not_after = not_after;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Sandbox throwaway authority");
    let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let mut leaf = CertificateParams::new(names.to_vec())?;
    leaf.not_before = not_before;
    leaf.not_after = not_after;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    leaf.distinguished_name.push(DnType::CommonName, "Sandbox");
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;

    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity { ca_der: issuer.der().clone(), ca_pem: issuer.pem(), server: Arc::new(server) })
}
