//! Opening what is sealed at rest, from the description of its form alone (`docs/decisions`): what the holder of the environment can do,
//! and what a thief of the database tries with keys that he guesses.
//!
//! Shares no code with the program under test: that a value opens here shows that it is what the claims say it is, AES-256-GCM (NIST SP
//! 800-38D) or Fernet (its specification, version 0x80), and nothing else.

use std::collections::BTreeMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey},
    hkdf, hmac,
    iv::FixedLength,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{database::Session, evidence::Failure, owner::text};

/// The number of the form, the first byte of everything that is sealed by AES-256-GCM.
pub const FORM: u8 = 1;
/// A nonce has 96 bits.
pub const NONCE: usize = 12;
/// A tag has 128.
pub const TAG: usize = 16;
/// How the text of a Fernet token begins.
pub const FERNET: &[u8] = b"gAAAA";
const KEY: usize = 32;
const ENVIRONMENT: &str = "local";

/// A key of 256 bits.
pub type Key = [u8; KEY];

/// A sealed field of a credential, with everything around it that a copy of the database shows.
pub struct SealedField {
    /// Whose it is.
    pub workspace: Uuid,
    /// For which connection.
    pub connection: Uuid,
    /// At which provider.
    pub provider: String,
    /// `access` or `refresh`.
    pub field: String,
    /// Under which data key.
    pub data_key: Uuid,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// That data key, as it is stored.
    pub wrapped: Vec<u8>,
    /// Under which epoch it is wrapped.
    pub epoch: i64,
}

const FIELDS: &str = "select d.workspace_id, d.connection_id, c.provider, d.field, d.data_key_id, d.sealed, k.wrapped, k.epoch \
    from keyholder.credentials d join keyholder.connections c on c.workspace_id = d.workspace_id and c.id = d.connection_id \
    join keyholder.data_keys k on k.workspace_id = d.workspace_id and k.id = d.data_key_id order by d.connection_id, d.field";

/// All sealed fields of all credentials.
///
/// # Errors
/// Where the login may not read them.
pub async fn fields(owner: &Session) -> Result<Vec<SealedField>, Failure> {
    let read = |row: &Row| -> Result<SealedField, tokio_postgres::Error> {
        Ok(SealedField {
            workspace: row.try_get(0)?,
            connection: row.try_get(1)?,
            provider: row.try_get(2)?,
            field: row.try_get(3)?,
            data_key: row.try_get(4)?,
            sealed: row.try_get(5)?,
            wrapped: row.try_get(6)?,
            epoch: row.try_get(7)?,
        })
    };
    Ok(owner.client.query(FIELDS, &[]).await?.iter().map(read).collect::<Result<_, _>>()?)
}

/// The keys of a rehearsal, by epoch.
pub struct Environment(BTreeMap<i64, Key>);

impl Environment {
    /// Opens the keyring with the root key, as both are handed to a node.
    ///
    /// # Errors
    /// `Unproven` where they do not fit.
    pub fn open(handover: &Value) -> Result<Self, Failure> {
        let root = root_key(handover)?;
        let keyring: Value = serde_json::from_slice(&std::fs::read(text(handover, "/keys/keyring"))?)?;
        let wrap = derive(&root, &format!("keyholder/1/keyring-wrap/{ENVIRONMENT}"));
        let mut epochs = BTreeMap::new();
        for entry in keyring.pointer("/epochs").and_then(Value::as_array).into_iter().flatten() {
            let id = entry.get("id").and_then(Value::as_i64).unwrap_or_default();
            let wrapped = STANDARD.decode(text(entry, "/key"))?;
            let aad = frames("keyholder/epoch-key", &[ENVIRONMENT.as_bytes(), &id.to_be_bytes()]);
            let opened = open(&wrap, &aad, &wrapped).and_then(|bytes| Key::try_from(bytes).ok());
            epochs.insert(id, opened.ok_or_else(|| Failure::unproven(format!("epoch {id} does not open")))?);
        }
        Ok(Self(epochs))
    }

    /// What a field holds.
    pub fn read(&self, field: &SealedField) -> Option<Vec<u8>> {
        field.open(&field.unwrap(self.0.get(&field.epoch)?)?)
    }
}

/// The root key's bytes, as a node is handed them.
///
/// # Errors
/// `Unproven` where there is none.
pub fn root_key(handover: &Value) -> Result<Key, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(text(handover, "/keys/root_key").trim_end())?;
    Key::try_from(bytes).map_err(|_| Failure::unproven("the root key has not 32 bytes"))
}

/// By what an installation knows its root key again.
pub fn root_check(root: &Key) -> Key {
    derive(root, &format!("keyholder/1/installation/{ENVIRONMENT}"))
}

impl SealedField {
    /// The data key, opened under an epoch's.
    pub fn unwrap(&self, epoch: &Key) -> Option<Key> {
        let parts =
            [ENVIRONMENT.as_bytes(), self.workspace.as_bytes(), self.data_key.as_bytes(), &self.epoch.to_be_bytes()];
        Key::try_from(open(epoch, &frames("keyholder/data-key", &parts), &self.wrapped)?).ok()
    }

    /// What it holds, opened under a data key, in whichever form it is.
    pub fn open(&self, data_key: &Key) -> Option<Vec<u8>> {
        if !self.sealed.starts_with(FERNET) {
            return contents(&open(data_key, &self.place(), &self.sealed)?);
        }
        let opened = open_fernet(&derive(data_key, "keyholder/1/credential-fernet"), &self.sealed)?;
        let (length, rest) = opened.split_first_chunk()?;
        let (place, inside) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        (place == self.place()).then(|| contents(inside)).flatten()
    }

    /// Where it belongs, which is authenticated with it.
    fn place(&self) -> Vec<u8> {
        frames(
            "keyholder/sealed",
            &[
                ENVIRONMENT.as_bytes(),
                self.workspace.as_bytes(),
                self.data_key.as_bytes(),
                b"credential",
                self.connection.as_bytes(),
                self.provider.as_bytes(),
                self.field.as_bytes(),
            ],
        )
    }
}

/// The secret behind its permitted hosts.
fn contents(inside: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = inside.split_first()?;
    let (count, mut rest) = rest.split_first_chunk()?;
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk()?;
        rest = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?.1;
    }
    Some(rest.to_vec())
}

/// A label, the form's number and parts, each behind its length.
fn frames(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let all = [label.as_bytes(), &[FORM]].into_iter().chain(parts.iter().copied());
    all.flat_map(|part| [&(part.len() as u64).to_be_bytes(), part].concat()).collect()
}

fn derive(key: &Key, info: &str) -> Key {
    let mut derived = [0; KEY];
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
    let filled = salt.extract(key).expand(&[info.as_bytes()], hkdf::HKDF_SHA256).map(|okm| okm.fill(&mut derived));
    // 32 bytes can always be had; were they not, nothing would open, and the probe would say so.
    debug_assert!(matches!(filled, Ok(Ok(()))));
    derived
}

/// AES-256-GCM over a form's byte, a nonce, the ciphertext and its tag.
pub fn open(key: &Key, aad: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = stored.split_first().filter(|(form, _)| **form == FORM)?.1.split_first_chunk::<NONCE>()?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let mut buffer = sealed.to_vec();
    let length = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

/// A Fernet token: HMAC-SHA256 with the first half of the key over everything, AES-128-CBC with the second.
fn open_fernet(key: &Key, token: &[u8]) -> Option<Vec<u8>> {
    let bytes = URL_SAFE.decode(token).ok()?;
    let (signed, tag) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    let (signs, encrypts) = key.split_at_checked(16)?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, signs), signed, tag).ok()?;
    let iv = signed.get(9..25)?.first_chunk::<16>()?;
    let mut sealed = signed.get(25..)?.to_vec();
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, encrypts).ok()?).ok()?;
    let opened = key.decrypt(&mut sealed, DecryptionContext::Iv128(FixedLength::from(*iv))).ok()?;
    Some(opened.to_vec())
}
