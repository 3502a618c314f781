//! Just enough gzip to answer compressed where nobody asked for it.
//!
//! One block of fixed Huffman codes (RFC 1951 §3.2.6) without any matches: the result is a little longer than its input, but
//! no byte of the input stands in it as it was, so that a search through the raw answer finds nothing.

/// Compresses into one gzip member (RFC 1952).
pub(crate) fn compress(input: &[u8]) -> Vec<u8> {
    let mut bits = Bits { out: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], held: 0, count: 0 };
    bits.push(1, 1); // the last block
    bits.push(0b01, 2); // of fixed codes
    for byte in input {
        match byte {
            0..144 => bits.push_code(0b0011_0000 + u32::from(*byte), 8),
            144.. => bits.push_code(0b1_1001_0000 + u32::from(*byte - 144), 9),
        }
    }
    bits.push_code(0, 7); // end of block
    let mut out = bits.finish();
    out.extend_from_slice(&crc32(input).to_le_bytes());
    out.extend_from_slice(&u32::try_from(input.len() & 0xffff_ffff).unwrap_or(0).to_le_bytes());
    out
}

struct Bits {
    out: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    /// Appends bits, the lowest first.
    fn push(&mut self, value: u32, length: u32) {
        self.held |= value << self.count;
        self.count += length;
        while self.count >= 8 {
            self.out.push(self.held.to_le_bytes()[0]);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Appends a Huffman code: these go highest bit first (RFC 1951 §3.1.1).
    fn push_code(&mut self, code: u32, length: u32) {
        self.push(code.reverse_bits() >> (32 - length), length);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.out.push(self.held.to_le_bytes()[0]);
        }
        self.out
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads back what [`compress`] wrote, by the RFC's bit order and independent of [`Bits`].
    pub(crate) fn expand(gzip: &[u8]) -> Vec<u8> {
        let (body, trailer) = gzip[10..].split_at(gzip.len() - 18);
        let mut bits = body.iter().flat_map(|byte| (0..8).map(move |place| u32::from(byte >> place & 1)));
        assert_eq!([bits.next(), bits.next(), bits.next()], [Some(1), Some(1), Some(0)]);
        let mut out = Vec::new();
        loop {
            let mut code = bits.by_ref().take(7).fold(0, |code, bit| code << 1 | bit);
            if code == 0 {
                break;
            }
            code = code << 1 | bits.next().unwrap();
            if code >= 0b1_1001_0000 >> 1 {
                code = (code << 1 | bits.next().unwrap()) - 0b1_1001_0000 + 144;
            } else {
                code -= 0b0011_0000;
            }
            out.push(u8::try_from(code).unwrap());
        }
        assert_eq!(trailer[..4], crc32(&out).to_le_bytes());
        assert_eq!(trailer[4..], u32::try_from(out.len()).unwrap().to_le_bytes());
        out
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_compressed_comes_back_and_is_hidden() {
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(expand(&compress(&every)), every);
        let text = b"Bearer abcdefgh";
        let gzip = compress(text);
        assert_eq!(expand(&gzip), text);
        assert!(!gzip.windows(4).any(|four| four == b"abcd"));
    }
}
