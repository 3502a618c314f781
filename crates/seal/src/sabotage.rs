//! What stands in a control's place where it is switched off. Only in a build with the feature `sabotage`.

use aws_lc_rs::{
    cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey},
    iv::FixedLength,
};
use zeroize::Zeroizing;

use crate::{
    aead::{NONCE_BYTES, TAG_BYTES},
    key::KeyBytes,
};

/// Opens a value without a look at its tag: the counter mode inside of GCM (NIST SP 800-38D §7.2), whose first block is number 2.
pub(crate) fn open_unchecked(key: &KeyBytes, nonce: [u8; NONCE_BYTES], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(sealed.get(..sealed.len().checked_sub(TAG_BYTES)?)?.to_vec());
    let mut block = [0; 16];
    let (front, back) = block.split_at_mut(NONCE_BYTES);
    front.copy_from_slice(&nonce);
    back.copy_from_slice(&2_u32.to_be_bytes());
    let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, key.as_bytes()).ok()?).ok()?;
    key.decrypt(&mut text, DecryptionContext::Iv128(FixedLength::from(block))).ok()?;
    Some(text)
}
