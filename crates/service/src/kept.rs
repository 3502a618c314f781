//! Kept answers: what a provider answered an act, scrubbed, sealed for a week, so that a retry is answered as the first try was.

use bytes::Bytes;
use zeroize::Zeroizing;

/// An answer as a caller may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

impl Kept {
    /// Status and the length of the content type (16 bits each, big-endian), the content type, the body.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.content_type.len()).ok()?;
        let mut bytes = Vec::with_capacity(4 + self.content_type.len() + self.body.len());
        bytes.extend_from_slice(&self.status.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(self.content_type.as_bytes());
        bytes.extend_from_slice(&self.body);
        Some(bytes)
    }

    pub(crate) fn decode(bytes: &Zeroizing<Vec<u8>>) -> Option<Self> {
        let (status, rest) = bytes.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (content_type, body) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        Some(Self {
            status: u16::from_be_bytes(*status),
            content_type: String::from_utf8(content_type.to_vec()).ok()?,
            body: Bytes::copy_from_slice(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let kept = Kept { status: 201, content_type: "application/json".to_owned(), body: Bytes::from_static(b"{}") };
        let bytes = Zeroizing::new(kept.encode().unwrap());
        assert_eq!(Kept::decode(&bytes), Some(kept));
        for cut in 0..4 {
            assert_eq!(Kept::decode(&Zeroizing::new(bytes[..cut].to_vec())), None);
        }
    }
}
