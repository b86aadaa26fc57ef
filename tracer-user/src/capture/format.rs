//! The form of a recording on disk: a head, then blocks. Only bytes here, no file and no thread.
//!
//! Head: magic (8), format u16, length u16 and text of tracer's version, CRC-32 of all that. Block: kind u8, coding
//! u8, zero u16, stored length u32, raw length u32, CRC-32 of the stored bytes, CRC-32 of the sixteen bytes before,
//! then the stored bytes. Numbers are little endian. A block stands alone: none needs another to be unpacked.

use std::io::Write as _;

use flate2::{Compression, Decompress, FlushDecompress, Status, write::DeflateEncoder};

/// Like PNG's: a byte beyond ASCII, and both line ends, so that a transfer as text is noticed.
pub const MAGIC: [u8; 8] = *b"\x89TRC\r\n\x1a\n";
/// Raised when a reader of the older form would read wrong figures.
pub const FORMAT: u16 = 2;
/// A version text is a few characters.
pub const MAX_VERSION_TEXT: u16 = 64;
pub const BLOCK_HEAD: usize = 20;
/// The largest record that is kept: 20 000 goroutine groups of some 20 frames are about 4 MiB. Deflate
/// packs up to a thousand bytes into one, so this bounds what a few bytes can make a reader allocate.
pub const MAX_RAW: usize = 8 << 20;
/// Deflate makes what it cannot shrink longer by 5 bytes per 16 KiB; such a block is stored as it is instead.
pub const MAX_STORED: usize = MAX_RAW;

/// What a block holds. A number is never used again; a reader passes over those it does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Where the name sections lie: a slot and a [`crate::record::image::Image`].
    Image = 1,
    /// Bytes of the image: a slot, then pieces of address, length, bytes.
    Pieces = 2,
    /// Records: length and bytes of each, so that one of a newer tracer is passed over.
    Records = 3,
    /// The session ended and all before is complete: how many records, and how many were not kept.
    End = 4,
}

impl Kind {
    pub fn of(number: u8) -> Option<Self> {
        [Self::Image, Self::Pieces, Self::Records, Self::End].into_iter().find(|kind| *kind as u8 == number)
    }
}

const PLAIN: u8 = 0;
const DEFLATE: u8 = 1;

/// The head of every recording.
pub fn head(version: &str) -> Vec<u8> {
    let text = &version.as_bytes()[..version.len().min(usize::from(MAX_VERSION_TEXT))];
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// A block of at most [`MAX_RAW`] bytes.
pub fn block(kind: Kind, raw: &[u8]) -> Vec<u8> {
    // zlib's usual level: name tables of tens of megabytes are packed by a thread of their own.
    let mut packed = DeflateEncoder::new(vec![0; BLOCK_HEAD], Compression::default());
    let packed = packed.write_all(raw).and_then(|()| packed.finish());
    let (coding, mut bytes) = match packed {
        Ok(packed) if packed.len() - BLOCK_HEAD <= raw.len() / 4 * 3 => (DEFLATE, packed),
        // Less than a quarter is not worth the unpacking. Writing to a Vec does not fail; if it ever did, the bytes
        // as they are would still be right.
        _ => {
            let mut plain = vec![0; BLOCK_HEAD];
            plain.extend(raw);
            (PLAIN, plain)
        }
    };
    let stored = (bytes.len() - BLOCK_HEAD) as u32;
    let payload = crc32fast::hash(&bytes[BLOCK_HEAD..]);
    bytes[0] = kind as u8;
    bytes[1] = coding;
    bytes[4..8].copy_from_slice(&stored.to_le_bytes());
    bytes[8..12].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&payload.to_le_bytes());
    let own = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&own.to_le_bytes());
    bytes
}

/// What unpacks blocks, one after the other.
pub fn inflater() -> Decompress {
    Decompress::new(false)
}

/// A block's first bytes, taken apart and checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHead {
    pub kind: u8,
    coding: u8,
    pub stored: usize,
    raw: usize,
    payload: u32,
}

impl BlockHead {
    /// `None`: these bytes are no block's head.
    pub fn parse(bytes: &[u8; BLOCK_HEAD]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let head = Self {
            kind: bytes[0],
            coding: bytes[1],
            stored: word(4) as usize,
            raw: word(8) as usize,
            payload: word(12),
        };
        let sound = word(16) == crc32fast::hash(&bytes[..16])
            && bytes[2..4] == [0, 0]
            && head.coding <= DEFLATE
            && head.stored <= MAX_STORED
            && head.raw <= MAX_RAW;
        sound.then_some(head)
    }

    /// The block's content from its stored bytes, into `raw`; or what is wrong with them.
    pub fn unpack(
        &self,
        stored: &[u8],
        inflate: &mut Decompress,
        raw: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        if crc32fast::hash(stored) != self.payload {
            return Err("a block's checksum");
        }
        raw.clear();
        raw.reserve(self.raw + 1);
        if self.coding == PLAIN {
            raw.extend_from_slice(stored);
        } else {
            inflate.reset(false);
            // All at once into room for one byte more than it says, which shows one that is longer.
            match inflate.decompress_vec(stored, raw, FlushDecompress::Finish) {
                Ok(Status::StreamEnd) => {}
                Ok(Status::Ok | Status::BufError) => return Err("a block's length"),
                Err(_packed_wrong) => return Err("a block that cannot be unpacked"),
            }
        }
        if raw.len() == self.raw { Ok(()) } else { Err("a block's length") }
    }
}

/// Appends a length or a number, seven bits a byte.
pub fn put_number(mut n: u64, to: &mut Vec<u8>) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

/// Takes such a number off the front.
pub fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        n |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// Takes a length and as many bytes off the front.
pub fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_number(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        let head = BlockHead::parse(bytes[..BLOCK_HEAD].try_into().unwrap()).ok_or("head")?;
        let mut raw = Vec::new();
        head.unpack(&bytes[BLOCK_HEAD..], &mut inflater(), &mut raw).map(|()| raw)
    }

    #[test]
    fn a_block_comes_back_as_it_was() {
        let mixed: Vec<u8> = (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for raw in [&b""[..], b"a", &vec![7; 100_000], &mixed] {
            let bytes = block(Kind::Records, raw);
            assert_eq!(unpacked(&bytes).as_deref(), Ok(raw));
            assert!(bytes.len() <= raw.len() + BLOCK_HEAD);
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let bytes = block(Kind::Pieces, b"some bytes, some bytes, some bytes");
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert!(unpacked(&changed).is_err(), "bit {at}");
        }
    }

    #[test]
    fn numbers_come_back() {
        for n in [0, 1, 127, 128, 0xdead_beef, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(n, &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!((take_number(&mut rest), rest.len()), (Some(n), 0));
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
        }
    }
}
