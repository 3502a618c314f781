//! Credentials: a secret sealed together with the hosts that it may be sent to.
//!
//! The hosts lie inside the sealed bytes, so that whoever can write the database but holds no key cannot turn a credential to a
//! host of his own. Never interprets a host: that is egress's business, which compares them exactly.

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    binding::Binding,
    data_key::DataKey,
    fernet::{self, FernetKey},
    key::KeyBytes,
    mac,
    plain::Plain,
    root_key::hkdf_sha256,
    sealed::{OpenError, SealError, Sealed, open_in_place, seal_in_place},
};

/// The most hosts that one credential may be sent to.
pub const HOSTS_MAX: usize = 64;
/// The longest host: a name of 253 characters (RFC 1035 §2.3.4) with a colon and a port.
pub const HOST_BYTES_MAX: usize = 259;
/// The longest secret. Tokens have a few kilobytes at most.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// The layout inside the seal: this byte; the number of hosts; each host behind its length (all 16 bits, big-endian); the
/// secret, which is the rest.
const LAYOUT: u8 = 1;

/// The label under which a data key's own Fernet key is derived. Changing it makes every credential of that form unreadable.
const FERNET_INFO: &[u8] = b"keyholder/1/credential-fernet";

/// The form in which a credential is written. Both are read, always: what is stored tells which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    /// AES-256-GCM, the binding authenticated beside the plaintext.
    #[default]
    Aes256Gcm,
    /// A Fernet token, the binding inside the plaintext, since Fernet authenticates nothing beside it.
    Fernet,
}

impl Form {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes_256_gcm",
            Self::Fernet => "fernet",
        }
    }

    /// The form that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Aes256Gcm, Self::Fernet].into_iter().find(|form| form.as_str() == word)
    }

    /// The form of what is stored. A format's number is never the letter that every Fernet token begins with.
    pub fn of(sealed: &Sealed) -> Self {
        if sealed.as_bytes().starts_with(fernet::PREFIX) { Self::Fernet } else { Self::Aes256Gcm }
    }
}

/// An opened credential. It lives for one call.
pub struct Credential {
    /// What is sent.
    pub secret: Plain,
    /// Where it may be sent: 1 to 64 hosts, as they were sealed.
    pub hosts: Vec<String>,
}

/// Seals a secret with its permitted hosts, in the place of a credential. The secret is spent, and wiped.
///
/// # Errors
/// `OtherKind` for another place than a credential's, `OtherKey` where the binding does not name this key, `Hosts`, `Host` and
/// `Secret` where a bound is passed, `Cipher`.
pub fn seal_credential(
    key: &DataKey,
    binding: &Binding<'_>,
    secret: Plain,
    hosts: &[impl AsRef<str>],
) -> Result<Sealed, SealError> {
    if !binding.is_credential() {
        return Err(SealError::OtherKind);
    }
    if is_left_unsealed() {
        return Ok(Sealed::from_bytes(encode(secret, hosts)?.into_exposed().to_vec()));
    }
    seal_in_place(key, binding, encode(secret, hosts)?)
}

/// Seals like [`seal_credential`], in the form that the installation writes. A Fernet token carries the time `at`, readable by
/// everybody.
///
/// # Errors
/// As [`seal_credential`].
pub fn seal_credential_as(
    form: Form,
    key: &DataKey,
    binding: &Binding<'_>,
    secret: Plain,
    hosts: &[impl AsRef<str>],
    at: OffsetDateTime,
) -> Result<Sealed, SealError> {
    if form == Form::Aes256Gcm || domain::sabotaged!(FernetAtRest) {
        return seal_credential(key, binding, secret, hosts);
    }
    if !binding.is_credential() {
        return Err(SealError::OtherKind);
    }
    if !key.is_of(binding) {
        return Err(SealError::OtherKey);
    }
    let token = fernet_key(key).encrypt(bind(binding, encode(secret, hosts)?)?, at).map_err(|_| SealError::Cipher)?;
    Ok(Sealed::from_bytes(token.into_bytes()))
}

/// Opens what [`seal_credential`] or [`seal_credential_as`] made under the same key and binding, whichever its form.
///
/// # Errors
/// Where it does not open, and as far as it can be told why.
pub fn open_credential(key: &DataKey, binding: &Binding<'_>, sealed: &Sealed) -> Result<Credential, OpenError> {
    if !binding.is_credential() {
        return Err(OpenError::OtherKind);
    }
    let plain = match Form::of(sealed) {
        Form::Aes256Gcm if is_left_unsealed() => Zeroizing::new(sealed.as_bytes().to_vec()),
        Form::Aes256Gcm => open_in_place(key, binding, sealed)?.into_exposed(),
        Form::Fernet => open_fernet(key, binding, sealed)?,
    };
    decode(&plain).ok_or(OpenError::Contents)
}

/// Whether the sealing of credentials is switched off, for the two probes that must notice.
fn is_left_unsealed() -> bool {
    [domain::sabotaged!(SealedAtRest), domain::sabotaged!(SealedOnReceipt)].contains(&true)
}

/// The data key's own Fernet key: one that leaked would open nothing of the other form, and nothing of another data key.
fn fernet_key(key: &DataKey) -> FernetKey {
    FernetKey::from_bytes(KeyBytes::written_by(|derived| {
        if hkdf_sha256(&[], key.key().as_bytes(), FERNET_INFO, derived).is_err() {
            // RFC 5869 allows 8,160 bytes and these are 32: a library that refuses is broken, and so would be its keys.
            std::process::abort();
        }
    }))
}

/// The binding behind its length (32 bits, big-endian), then the credential: what Fernet cannot authenticate beside the
/// plaintext lies within it.
fn bind(binding: &Binding<'_>, contents: Plain) -> Result<Plain, SealError> {
    let aad = binding.to_aad();
    let length = u32::try_from(aad.len()).map_err(|_| SealError::Cipher)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 + aad.len() + contents.len()));
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&aad);
    bytes.extend_from_slice(&contents.into_exposed());
    Ok(Plain::from(bytes))
}

/// Opens a Fernet token, and refuses one whose binding is not the one of the place that it was found in.
fn open_fernet(key: &DataKey, binding: &Binding<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if !key.is_of(binding) {
        return Err(OpenError::OtherKey);
    }
    let mut opened = fernet_key(key).decrypt(sealed.as_bytes(), None).map_err(|_| OpenError::Refused)?.into_exposed();
    let (length, rest) = opened.split_first_chunk().ok_or(OpenError::Refused)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| OpenError::Refused)?;
    let (found, _) = rest.split_at_checked(length).ok_or(OpenError::Refused)?;
    if !mac::same(found, &binding.to_aad()) {
        return Err(OpenError::Refused);
    }
    opened.drain(..4 + length);
    Ok(opened)
}

fn is_host(host: &str) -> bool {
    (1..=HOST_BYTES_MAX).contains(&host.len())
        && host.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
}

/// A number that the bounds above keep within 16 bits.
fn short(number: usize) -> Option<[u8; 2]> {
    u16::try_from(number).ok().map(u16::to_be_bytes)
}

fn encode(secret: Plain, hosts: &[impl AsRef<str>]) -> Result<Plain, SealError> {
    if !(1..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(SealError::Secret(secret.len()));
    }
    if !(1..=HOSTS_MAX).contains(&hosts.len()) {
        return Err(SealError::Hosts(hosts.len()));
    }
    let mut head = vec![LAYOUT];
    head.extend(short(hosts.len()).ok_or(SealError::Hosts(hosts.len()))?);
    for (at, host) in hosts.iter().map(AsRef::as_ref).enumerate() {
        let length = Some(host).filter(|host| is_host(host)).and_then(|host| short(host.len()));
        head.extend(length.ok_or(SealError::Host(at))?);
        head.extend(host.as_bytes());
    }
    // The room is taken before the secret comes in: a vector that grew would leave it in its old place.
    let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + secret.len()));
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&secret.into_exposed());
    Ok(Plain::from(bytes))
}

fn decode(bytes: &[u8]) -> Option<Credential> {
    let (_, rest) = bytes.split_first().filter(|(layout, _)| **layout == LAYOUT)?;
    let (count, mut rest) = rest.split_first_chunk().map(|(count, rest)| (u16::from_be_bytes(*count), rest))?;
    if !(1..=HOSTS_MAX).contains(&usize::from(count)) {
        return None;
    }
    let mut hosts = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (length, tail) = rest.split_first_chunk()?;
        let (host, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        hosts.push(std::str::from_utf8(host).ok().filter(|host| is_host(host))?.to_owned());
        rest = tail;
    }
    if domain::sabotaged!(OpenedForOneCall) {
        Box::leak(Box::<[u8]>::from(rest));
    }
    (1..=SECRET_BYTES_MAX).contains(&rest.len()).then(|| Credential { secret: Plain::new(rest.to_vec()), hosts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        binding::{Field, Place},
        sealed::{open, seal},
    };
    use domain::{
        clock::Clock,
        environment::Environment,
        id::{ActId, ConnectionId, DataKeyId, WorkspaceId},
    };
    use proptest::prelude::*;

    const HOSTS: [&str; 2] = ["api.example.com", "upload.example.com:8443"];

    fn data_key() -> DataKey {
        let clock = Clock::system();
        DataKey::generate(WorkspaceId::new(&clock), &clock)
    }

    fn bound(key: &DataKey, place: Place<'static>) -> Binding<'static> {
        Binding::new(Environment::Production, key.workspace(), key.id(), place).unwrap()
    }

    fn token_place() -> Place<'static> {
        Place::Credential { connection: ConnectionId::new(&Clock::system()), provider: "x", field: Field::Access }
    }

    fn secret() -> Plain {
        Plain::from("a secret".to_owned())
    }

    const FORMS: [Form; 2] = [Form::Aes256Gcm, Form::Fernet];

    fn sealed_as(
        form: Form,
        key: &DataKey,
        binding: &Binding<'_>,
        secret: Plain,
        hosts: &[impl AsRef<str>],
    ) -> Result<Sealed, SealError> {
        seal_credential_as(form, key, binding, secret, hosts, OffsetDateTime::UNIX_EPOCH)
    }

    fn exposed(credential: Credential) -> (Vec<u8>, Vec<String>) {
        (credential.secret.into_exposed().to_vec(), credential.hosts)
    }

    proptest! {
        #[test]
        fn secret_and_hosts_come_back_as_they_were(
            secret in prop::collection::vec(any::<u8>(), 1..500),
            hosts in prop::collection::vec("[a-z0-9.:-]{1,40}", 1..8),
            fernet: bool,
        ) {
            let key = data_key();
            let binding = bound(&key, token_place());
            let form = FORMS[usize::from(fernet)];
            let sealed = sealed_as(form, &key, &binding, Plain::new(secret.clone()), &hosts).unwrap();
            prop_assert_eq!(Form::of(&sealed), form);
            let opened = open_credential(&key, &binding, &sealed).map(exposed);
            prop_assert_eq!(opened, Ok((secret, hosts)));
        }

        #[test]
        fn any_contents_are_read_in_one_way_or_refused(bytes in prop::collection::vec(0_u8..4, 0..40)) {
            let bytes = [&[LAYOUT, 0], &bytes[..]].concat();
            if let Some(Credential { secret, hosts }) = decode(&bytes) {
                prop_assert_eq!(&*encode(secret, &hosts).unwrap().into_exposed(), &bytes);
            }
        }
    }

    #[test]
    fn a_credential_moved_to_any_other_place_does_not_open() {
        let clock = Clock::system();
        let key = data_key();
        let (workspace, id, connection) = (key.workspace(), key.id(), ConnectionId::new(&clock));
        let at = |connection, provider, field| Place::Credential { connection, provider, field };
        let place = at(connection, "x", Field::Access);
        let home = Binding::new(Environment::Local, workspace, id, place).unwrap();
        let table = [
            ("environment", Environment::Staging, workspace, id, place),
            ("environment", Environment::Production, workspace, id, place),
            ("workspace", Environment::Local, WorkspaceId::new(&clock), id, place),
            ("data key", Environment::Local, workspace, DataKeyId::new(&clock), place),
            ("connection", Environment::Local, workspace, id, at(ConnectionId::new(&clock), "x", Field::Access)),
            ("provider", Environment::Local, workspace, id, at(connection, "y", Field::Access)),
            ("provider", Environment::Local, workspace, id, at(connection, "xa", Field::Access)),
            ("field", Environment::Local, workspace, id, at(connection, "x", Field::Refresh)),
        ];
        for form in FORMS {
            let sealed = sealed_as(form, &key, &home, secret(), &HOSTS).unwrap();
            for (part, environment, workspace, id, place) in table {
                let binding = Binding::new(environment, workspace, id, place).unwrap();
                assert_eq!(
                    open_credential(&key, &binding, &sealed).err(),
                    Some(if (workspace, id) == (key.workspace(), key.id()) {
                        OpenError::Refused
                    } else {
                        OpenError::OtherKey
                    }),
                    "{part}"
                );
                // The key takes the names of the other place, as a forger would have it: the seal alone is left to refuse.
                let key = key.renamed(workspace, id);
                assert_eq!(
                    open_credential(&key, &binding, &sealed).err(),
                    Some(OpenError::Refused),
                    "{part}, {form:?}"
                );
            }
            assert!(open_credential(&key, &home, &sealed).is_ok(), "and at home it opens");
        }
    }

    #[test]
    fn a_changed_host_or_secret_does_not_open() {
        let key = data_key();
        let binding = bound(&key, token_place());
        let bytes = seal_credential(&key, &binding, secret(), &HOSTS).unwrap().into_bytes();
        for at in 1..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            let opened = open_credential(&key, &binding, &Sealed::from_bytes(changed));
            assert_eq!(opened.err(), Some(OpenError::Refused), "byte {at}");
        }
    }

    #[test]
    fn a_changed_byte_of_a_stored_token_does_not_open() {
        let key = data_key();
        let binding = bound(&key, token_place());
        let bytes = sealed_as(Form::Fernet, &key, &binding, secret(), &HOSTS).unwrap().into_bytes();
        for at in 0..bytes.len() {
            for with in [0x01, 0x20] {
                let mut changed = bytes.clone();
                changed[at] ^= with;
                assert!(open_credential(&key, &binding, &Sealed::from_bytes(changed)).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_stored_token_is_the_text_of_a_fernet_token_under_a_key_of_its_own() {
        let key = data_key();
        let binding = bound(&key, token_place());
        let sealed = sealed_as(Form::Fernet, &key, &binding, secret(), &HOSTS).unwrap();
        assert!(sealed.as_bytes().starts_with(b"gAAAA") && sealed.as_bytes().is_ascii());
        let halves = FernetKey::from_bytes(KeyBytes::from_slice(key.key().as_bytes()).unwrap());
        assert!(halves.decrypt(sealed.as_bytes(), None).is_err(), "the data key itself is not its Fernet key");
        assert!(fernet_key(&key).decrypt(sealed.as_bytes(), None).is_ok());
        assert!(fernet_key(&data_key()).decrypt(sealed.as_bytes(), None).is_err());
    }

    #[test]
    fn the_words_of_the_forms_are_read_and_written() {
        for form in FORMS {
            assert_eq!(Form::from_word(form.as_str()), Some(form));
        }
        assert_eq!(Form::from_word("Fernet"), None);
    }

    #[test]
    fn nothing_but_a_credential_has_hosts_and_no_credential_is_without() {
        let key = data_key();
        let token = bound(&key, token_place());
        let answer = bound(&key, Place::Answer { act: ActId::new(&Clock::system()) });
        assert_eq!(seal(&key, &token, secret()).unwrap_err(), SealError::OtherKind);
        for form in FORMS {
            assert_eq!(sealed_as(form, &key, &answer, secret(), &HOSTS).unwrap_err(), SealError::OtherKind);
            assert_eq!(sealed_as(form, &data_key(), &token, secret(), &HOSTS).unwrap_err(), SealError::OtherKey);
        }
        let sealed = seal_credential(&key, &token, secret(), &HOSTS).unwrap();
        assert_eq!(open(&key, &token, &sealed).err(), Some(OpenError::OtherKind));
        assert_eq!(open_credential(&key, &answer, &sealed).err(), Some(OpenError::OtherKind));
    }

    #[test]
    fn bounds_are_kept() {
        let key = data_key();
        let binding = bound(&key, token_place());
        let host = |length| "h".repeat(length);
        let plain = |length| Plain::new(vec![1; length]);
        let table = [
            (plain(1), vec![host(1)], None),
            (plain(SECRET_BYTES_MAX), vec![host(HOST_BYTES_MAX); HOSTS_MAX], None),
            (plain(0), vec![host(1)], Some(SealError::Secret(0))),
            (plain(SECRET_BYTES_MAX + 1), vec![host(1)], Some(SealError::Secret(SECRET_BYTES_MAX + 1))),
            (plain(1), vec![], Some(SealError::Hosts(0))),
            (plain(1), vec![host(1); HOSTS_MAX + 1], Some(SealError::Hosts(HOSTS_MAX + 1))),
            (plain(1), vec![host(1), host(0)], Some(SealError::Host(1))),
            (plain(1), vec![host(HOST_BYTES_MAX + 1)], Some(SealError::Host(0))),
            (plain(1), vec!["API.example.com".into()], Some(SealError::Host(0))),
            (plain(1), vec!["api example".into()], Some(SealError::Host(0))),
            (plain(1), vec!["bücher.example".into()], Some(SealError::Host(0))),
        ];
        for (secret, hosts, expected) in table {
            let sealed = seal_credential(&key, &binding, secret, &hosts);
            if let Ok(sealed) = &sealed {
                assert_eq!(open_credential(&key, &binding, sealed).map(|opened| opened.hosts), Ok(hosts.clone()));
            }
            assert_eq!(sealed.err(), expected, "{} hosts", hosts.len());
        }
    }

    #[test]
    fn what_is_not_a_credential_inside_is_refused() {
        let key = data_key();
        let binding = bound(&key, token_place());
        let good = encode(secret(), &HOSTS).unwrap().into_exposed().to_vec();
        let table: [(&str, Vec<u8>); 6] = [
            ("nothing", vec![]),
            ("another layout", [&[2], &good[1..]].concat()),
            ("no hosts", [&[LAYOUT, 0, 0], b"secret".as_slice()].concat()),
            ("too many hosts", [&[LAYOUT, 1, 0], &good[3..]].concat()),
            ("a host past the end", vec![LAYOUT, 0, 1, 0, 9, b'h']),
            ("no secret", good[..good.len() - 8].to_vec()),
        ];
        for (what, bytes) in table {
            let sealed = seal_in_place(&key, &binding, Plain::new(bytes)).unwrap();
            assert_eq!(open_credential(&key, &binding, &sealed).err(), Some(OpenError::Contents), "{what}");
        }
    }
}
