//! A gzip bomb, written by hand: spaces without end, in deflate's fixed code, 158 of them a byte.

/// Bytes that one step of the bomb inflates to.
const STEP: usize = 258;

/// A gzip stream that inflates to about so many megabytes of spaces.
pub(crate) fn inflating_to(megabytes: usize) -> Vec<u8> {
    let steps = (megabytes << 20) / STEP;
    let mut bits = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], filled: 0 };
    // The last block, in the fixed code: a space, and again and again the 258 bytes before the end.
    bits.push(0b011, 3);
    bits.push_code(0x30 + u32::from(b' '), 8);
    for _ in 0..steps {
        // Length 258 is symbol 285, and distance 1 is symbol 0.
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    let size = 1 + steps * STEP;
    let mut bytes = bits.bytes;
    bytes.extend(crc_of_spaces(size).to_le_bytes());
    bytes.extend((size as u32).to_le_bytes());
    bytes
}

/// Bits from the lowest of each byte upwards.
struct Bits {
    bytes: Vec<u8>,
    /// How many bits of the last byte are used; 0 stands for all.
    filled: u32,
}

impl Bits {
    /// The lowest `count` bits, lowest first, as deflate writes numbers.
    fn push(&mut self, bits: u32, count: u32) {
        for at in 0..count {
            if self.filled == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((bits >> at & 1) as u8) << self.filled;
            }
            self.filled = (self.filled + 1) % 8;
        }
    }

    /// The same, highest first, as deflate writes the symbols of its code.
    fn push_code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }
}

fn crc_of_spaces(count: usize) -> u32 {
    let step = |start: u32| (0..8).fold(start, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 });
    let table: Vec<u32> = (0..256).map(step).collect();
    !(0..count).fold(!0_u32, |crc, _| table[((crc ^ u32::from(b' ')) & 0xff) as usize] ^ crc >> 8)
}
