//! Kept answers: what a provider answered an act, scrubbed, sealed for a week, so that a retry is answered as the first try was.

use bytes::Bytes;
use zeroize::Zeroizing;

/// The most headers that are kept: what egress passes on is fewer.
const MOST_HEADERS: usize = 64;

/// An answer as a caller may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// The further headers that are passed on, such as `Retry-After`.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Kept {
    /// The status (16 bits, big-endian as all numbers here), the content type, the number of headers (16 bits), each header's name and
    /// value, the body. A text has its length (16 bits) before it.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(64 + self.content_type.len() + self.body.len());
        bytes.extend_from_slice(&self.status.to_be_bytes());
        put(&mut bytes, &self.content_type)?;
        bytes.extend_from_slice(&u16::try_from(self.headers.len().min(MOST_HEADERS)).ok()?.to_be_bytes());
        for (name, value) in self.headers.iter().take(MOST_HEADERS) {
            put(&mut bytes, name)?;
            put(&mut bytes, value)?;
        }
        bytes.extend_from_slice(&self.body);
        Some(bytes)
    }

    pub(crate) fn decode(bytes: &Zeroizing<Vec<u8>>) -> Option<Self> {
        let mut rest = bytes.as_slice();
        // The first number is a status and at the same time the form: another form will begin with a number that is no status.
        let status = number(&mut rest).filter(|status| (100..1000).contains(status))?;
        let content_type = text(&mut rest)?;
        let count = number(&mut rest)?;
        let headers = (0..count).map(|_| Some((text(&mut rest)?, text(&mut rest)?))).collect::<Option<_>>()?;
        Some(Self { status, content_type, headers, body: Bytes::copy_from_slice(rest) })
    }
}

fn put(bytes: &mut Vec<u8>, text: &str) -> Option<()> {
    bytes.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Some(())
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let (number, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::from(number(rest)?);
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let headers = vec![("retry-after".to_owned(), "7".to_owned()), ("etag".to_owned(), String::new())];
        let content_type = "application/json".to_owned();
        let kept = Kept { status: 201, content_type, headers, body: Bytes::from_static(b"{}") };
        let bytes = Zeroizing::new(kept.encode().unwrap());
        let before_body = bytes.len() - kept.body.len();
        assert_eq!(Kept::decode(&bytes), Some(kept));
        for cut in 0..before_body {
            assert_eq!(Kept::decode(&Zeroizing::new(bytes[..cut].to_vec())), None, "{cut}");
        }
        let mut of_another_form = bytes.to_vec();
        of_another_form[..2].copy_from_slice(&1000_u16.to_be_bytes());
        assert_eq!(Kept::decode(&Zeroizing::new(of_another_form)), None);
    }
}
