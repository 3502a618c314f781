//! An opened secret, which exists only on its way to the one call that needs it.

use zeroize::Zeroizing;

/// An opened secret.
///
/// It can be moved and it can be spent: nothing else. Its memory is overwritten when it is dropped, and so is the copy that
/// [`Plain::into_exposed`] hands out. What the caller copies out of there is the caller's to wipe.
///
/// ```
/// let plain = keyholder_seal::Plain::new(b"opened".to_vec());
/// let exposed = plain.into_exposed();
/// assert_eq!(exposed.as_slice(), b"opened");
/// ```
///
/// It is spent by value:
/// ```compile_fail,E0382
/// let plain = keyholder_seal::Plain::new(b"opened".to_vec());
/// let exposed = plain.into_exposed();
/// let again = plain.into_exposed();
/// ```
/// It cannot be copied:
/// ```compile_fail,E0599
/// let plain = keyholder_seal::Plain::new(b"opened".to_vec());
/// let copy = plain.clone();
/// ```
/// It cannot be printed, neither so:
/// ```compile_fail,E0277
/// let plain = keyholder_seal::Plain::new(b"opened".to_vec());
/// let text = format!("{plain:?}");
/// ```
/// nor so:
/// ```compile_fail,E0277
/// let plain = keyholder_seal::Plain::new(b"opened".to_vec());
/// let text = format!("{plain}");
/// ```
/// It cannot be written into an answer:
/// ```compile_fail,E0277
/// let plain = keyholder_seal::Plain::new(b"opened".to_vec());
/// let json = serde_json::to_string(&plain);
/// ```
/// It cannot be compared, which would tell by its time how much was right:
/// ```compile_fail,E0369
/// let plain = keyholder_seal::Plain::new(b"opened".to_vec());
/// let same = plain == keyholder_seal::Plain::new(b"opened".to_vec());
/// ```
pub struct Plain(Zeroizing<Vec<u8>>);

impl Plain {
    /// Takes the bytes over. The vector's own memory is kept, so that no copy stays behind.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Hands the bytes to the one call that needs them. They are overwritten when that call drops them.
    pub fn into_exposed(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Plain {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl From<Zeroizing<Vec<u8>>> for Plain {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Watch;

    #[test]
    fn a_dropped_secret_is_no_longer_in_memory() {
        let secret = [0xA7; 512];
        let spends: [fn(Plain); 2] = [drop, |plain| drop(plain.into_exposed())];
        for spend in spends {
            let plain = Plain::new(secret.to_vec());
            let mut watch = Watch::over(&plain.0);
            assert_eq!(watch.look(), secret, "the secret is where this test looks");
            spend(plain);
            // Whoever got the memory next may have written there, but nobody would have written this run.
            assert!(!watch.look().windows(16).any(|run| run == [0xA7; 16]));
        }
    }

    #[test]
    fn the_bytes_are_taken_over_and_not_copied() {
        let text = "a".repeat(100);
        let address = text.as_ptr();
        let plain = Plain::from(text);
        assert_eq!((plain.len(), plain.is_empty()), (100, false));
        assert_eq!(plain.into_exposed().as_ptr(), address);
    }
}
