//! Bytes as a row of choices: so that a fuzzer's small changes are small changes of what is made of them.

/// The rest of the bytes. When they are used up, everything is the first choice.
#[derive(Debug)]
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub(crate) fn one<'c, T>(&mut self, of: &'c [T]) -> &'c T {
        let at = self.below(of.len());
        &of[at]
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.0).into_owned()
    }
}
