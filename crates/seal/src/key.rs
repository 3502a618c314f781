//! 256 bits of key material, wherever they come from.
//!
//! Owns the wiping: the bytes lie behind one pointer for their whole life, so that moving the key leaves no copy on a stack,
//! and they are overwritten on drop. Never prints them, never copies them.

use domain::random;
use zeroize::Zeroizing;

pub(crate) const KEY_BYTES: usize = 32;

pub(crate) struct KeyBytes(Box<Zeroizing<[u8; KEY_BYTES]>>);

impl KeyBytes {
    /// Lets `write` fill a fresh key in the place where it will stay.
    pub(crate) fn written_by(write: impl FnOnce(&mut [u8; KEY_BYTES])) -> Self {
        let mut key = Box::new(Zeroizing::new([0; KEY_BYTES]));
        write(&mut key);
        Self(key)
    }

    pub(crate) fn random() -> Self {
        Self::written_by(|key| random::fill(key))
    }

    /// `None` unless the slice has exactly 32 bytes. The caller wipes his own copy.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_BYTES).then(|| Self::written_by(|key| key.copy_from_slice(bytes)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Watch;

    #[test]
    fn a_dropped_key_is_no_longer_in_memory() {
        let key = KeyBytes::random();
        let (mut watch, bytes) = (Watch::over(key.as_bytes()), *key.as_bytes());
        assert_eq!(watch.look(), bytes, "the key is where this test looks");
        drop(key);
        // The allocator may write its own pointers into the first half of what it gets back, and it alone.
        assert_ne!(watch.look()[16..], bytes[16..]);
    }

    #[test]
    fn only_its_own_size_is_a_key() {
        for size in [0, 1, 16, 31, 33, 64] {
            assert!(KeyBytes::from_slice(&vec![7; size]).is_none(), "{size}");
        }
        assert!(KeyBytes::from_slice(&[7; KEY_BYTES]).is_some());
    }
}
