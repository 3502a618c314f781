//! Buffers that are wiped, also when they grow. Never leaves a copy of their bytes behind in freed memory.

use zeroize::Zeroizing;

/// Appends to a wiped buffer.
///
/// A plain `extend` may move the bytes and free the old place as it is; here the old place is wiped as well.
pub(crate) fn append(buffer: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let wanted = buffer.len().saturating_add(bytes.len());
    if wanted > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(wanted.next_power_of_two().max(1024)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_there_in_order() {
        let mut buffer = Zeroizing::new(Vec::new());
        let mut expected = Vec::new();
        for size in [0_usize, 1, 1023, 1, 4096, 3] {
            let piece = vec![u8::try_from(size % 251).unwrap(); size];
            append(&mut buffer, &piece);
            expected.extend_from_slice(&piece);
        }
        assert_eq!(*buffer, expected);
    }
}
