//! Just enough of gzip, zlib and Brotli to answer compressed where nobody asked for it.
//!
//! For the first two, one block of fixed Huffman codes (RFC 1951 §3.2.6) without any matches: the result is a little longer than
//! its input, but no byte of the input stands in it as it was, so that a search through the raw answer finds nothing. Brotli's
//! blocks are stored as they are, which its decoders read like any other.

/// The most bytes of one of Brotli's stored blocks, as its head with four nibbles can say.
const STORED: usize = 1 << 16;

/// Compresses into one gzip member (RFC 1952).
pub(crate) fn compress(input: &[u8]) -> Vec<u8> {
    let mut out = deflate(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], input);
    out.extend_from_slice(&crc32(input).to_le_bytes());
    out.extend_from_slice(&u32::try_from(input.len() & 0xffff_ffff).unwrap_or(0).to_le_bytes());
    out
}

/// Compresses into a zlib stream (RFC 1950).
pub(crate) fn zlib(input: &[u8]) -> Vec<u8> {
    let mut out = deflate(vec![0x78, 0x01], input);
    out.extend_from_slice(&adler32(input).to_be_bytes());
    out
}

/// Writes a Brotli stream of stored blocks (RFC 7932 §9.1, §9.2).
pub(crate) fn brotli(input: &[u8]) -> Vec<u8> {
    let mut bits = Bits { out: Vec::new(), held: 0, count: 0 };
    bits.push(0, 1); // a window of 64 KiB
    for block in input.chunks(STORED) {
        bits.push(0, 1); // not the last
        bits.push(0, 2); // a length of four nibbles
        bits.push(u32::try_from(block.len() - 1).unwrap_or(0), 16);
        bits.push(1, 1); // stored
        bits.align();
        bits.out.extend_from_slice(block);
    }
    bits.push(0b11, 2); // the last, and empty
    bits.finish()
}

/// One final block of fixed codes, after a head.
fn deflate(head: Vec<u8>, input: &[u8]) -> Vec<u8> {
    let mut bits = Bits { out: head, held: 0, count: 0 };
    bits.push(1, 1); // the last block
    bits.push(0b01, 2); // of fixed codes
    for byte in input {
        match byte {
            0..144 => bits.push_code(0b0011_0000 + u32::from(*byte), 8),
            144.. => bits.push_code(0b1_1001_0000 + u32::from(*byte - 144), 9),
        }
    }
    bits.push_code(0, 7); // end of block
    bits.finish()
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

    /// Fills the byte that was begun with zeros.
    fn align(&mut self) {
        if self.count > 0 {
            self.out.push(self.held.to_le_bytes()[0]);
            (self.held, self.count) = (0, 0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.align();
        self.out
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
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
    fn the_checksums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn zlib_is_the_same_block_between_another_head_and_sum() {
        let (text, gzip) = (b"Bearer abcdefgh", compress(b"Bearer abcdefgh"));
        let zlib = zlib(text);
        assert_eq!(zlib[..2], [0x78, 0x01]);
        assert_eq!(zlib[2..zlib.len() - 4], gzip[10..gzip.len() - 8]);
        assert_eq!(zlib[zlib.len() - 4..], adler32(text).to_be_bytes());
    }

    #[test]
    fn brotli_is_written_as_its_rfc_says() {
        assert_eq!(brotli(b""), [0b110]);
        // Window, not last, four nibbles, the length less one, stored: 21 bits, then the bytes, then last and empty.
        assert_eq!(brotli(b"hello"), [0b0100_0000, 0, 0b1_0000, b'h', b'e', b'l', b'l', b'o', 0b11]);
        let long = brotli(&vec![b'a'; STORED + 1]);
        assert_eq!(long.len(), 3 + STORED + 3 + 1 + 1);
        assert_eq!(long[..3], [0b1111_0000, 0xff, 0b1_1111]);
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
