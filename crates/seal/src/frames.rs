//! Bytes that can be read in one way only: each part behind its length, after a label that names what follows.
//!
//! Everything that is authenticated but not hidden passes here, so that ("ab", "c") and ("a", "bc") can never be taken for
//! each other, nor a seal of one kind for one of another kind.

pub(crate) struct Frames(Vec<u8>);

impl Frames {
    /// Starts with the label, which no other use of this type may share, and the format's number.
    pub(crate) fn new(label: &str, format: u8) -> Self {
        Self(Vec::with_capacity(256)).part(label.as_bytes()).part(&[format])
    }

    /// Adds the part's length (64 bits, big-endian) and the part.
    pub(crate) fn part(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(parts: &[Vec<u8>]) -> Vec<u8> {
        parts.iter().fold(Frames::new("test", 1), |frames, part| frames.part(part)).into_bytes()
    }

    proptest! {
        #[test]
        fn different_parts_never_give_the_same_bytes(
            one in prop::collection::vec(prop::collection::vec(0_u8..3, 0..4), 0..5),
            other in prop::collection::vec(prop::collection::vec(0_u8..3, 0..4), 0..5),
        ) {
            prop_assert_eq!(one == other, framed(&one) == framed(&other));
        }

        #[test]
        fn moving_a_border_changes_the_bytes(text in prop::collection::vec(any::<u8>(), 2..40), first: u8, second: u8) {
            let (first, second) = (usize::from(first) % text.len(), usize::from(second) % text.len());
            let halves = |at: usize| vec![text[..at].to_vec(), text[at..].to_vec()];
            prop_assert_eq!(first == second, framed(&halves(first)) == framed(&halves(second)));
        }
    }
}
