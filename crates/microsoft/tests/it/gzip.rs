//! Just enough of gzip to write what a server might send.

const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// One block that is not compressed at all.
pub(crate) fn stored(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let crc = !body.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    let parts =
        [&HEAD[..], &[1], &length.to_le_bytes(), &(!length).to_le_bytes(), body, &crc.to_le_bytes(), &u32::from(length).to_le_bytes()];
    parts.concat()
}

/// About `count` zeros: one zero, then "the last one, 258 times" over and over. The checksum at the
/// end is left out, since nobody should come that far.
pub(crate) fn zeros(count: usize) -> Vec<u8> {
    let (mut out, mut bits, mut held) = (HEAD.to_vec(), 0_u32, 0);
    // Fixed Huffman codes, highest bit first: last block, literal 0, then length 258 and distance 1.
    let once = ["1", "10", "00110000"];
    let again = std::iter::repeat_n("1100010100000", count / 258);
    for code in once.into_iter().chain(again) {
        for bit in code.bytes() {
            bits |= u32::from(bit == b'1') << held;
            held += 1;
            if held == 8 {
                out.push(u8::try_from(bits).unwrap());
                (bits, held) = (0, 0);
            }
        }
    }
    out.extend([0, 0]);
    out
}

/// Zeros without an end: what it begins with, and what follows again and again.
pub(crate) struct Endless {
    pub(crate) start: Vec<u8>,
    pub(crate) again: Vec<u8>,
}

impl Endless {
    pub(crate) fn new() -> Self {
        // "258 zeros more" takes 13 bits: eight of them fill thirteen bytes, whatever bit they begin at.
        let whole = zeros(258 * 8 * 1100);
        let (start, period) = (100, 13 * 1000);
        assert_eq!(whole[start..start + 13], whole[start + period - 13..start + period]);
        Self { start: whole[..start].to_vec(), again: whole[start..start + period].to_vec() }
    }
}
