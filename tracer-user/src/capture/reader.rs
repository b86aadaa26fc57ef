//! Any bytes as a recording: what is in it, in order, up to its end or to where it stops making sense.
//!
//! One block is in memory at a time. A file that simply ends is a session that was cut off, and all before counts; a
//! file that contradicts itself is damaged, and the offset is named.

use std::io::{self, Read};

use super::{
    CaptureError,
    format::{self, BLOCK_HEAD, BlockHead, FORMAT, Kind, MAGIC, MAX_VERSION_TEXT, take_bytes, take_number},
};
use crate::{
    record::{Record, Slot, image::Image},
    units::ImageAddr,
};

/// What a recording holds, in the order in which it was written.
#[derive(Debug)]
pub enum Item<'a> {
    Image(Slot, Image),
    /// Bytes of the image at their linked address.
    Piece(Slot, ImageAddr, &'a [u8]),
    Record(Record),
}

/// How a recording ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// What the session said when it closed the recording; absent where it was cut off.
    pub closed: Option<Closed>,
    /// Bytes read, up to the last whole block.
    pub offset: u64,
    pub records: u64,
    /// Records and blocks of a newer tracer, passed over.
    pub unknown: u64,
    /// The version of the tracer that wrote it.
    pub version: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    pub records: u64,
    /// Records that were made and not kept.
    pub unrecorded: u64,
}

/// Reads a recording, calling `see` for each thing in it.
pub fn read(from: impl Read, see: impl FnMut(Item<'_>)) -> Result<End, CaptureError> {
    let mut reader = Reader { from, at: 0, see, records: 0, unknown: 0 };
    let version = reader.head()?;
    let closed = reader.blocks()?;
    let Reader { at: offset, records, unknown, .. } = reader;
    Ok(End { closed, offset, records, unknown, version })
}

struct Reader<R, F> {
    from: R,
    /// Offset of what is read next.
    at: u64,
    see: F,
    records: u64,
    unknown: u64,
}

impl<R: Read, F: FnMut(Item<'_>)> Reader<R, F> {
    fn head(&mut self) -> Result<String, CaptureError> {
        let mut fixed = [0; MAGIC.len() + 4];
        if self.fill(&mut fixed)? < fixed.len() || fixed[..MAGIC.len()] != MAGIC {
            return Err(CaptureError::NotRecording);
        }
        let number = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let (found, len) = (number(8), number(10));
        let damaged = |what| CaptureError::Damaged { offset: 0, what };
        if len > MAX_VERSION_TEXT {
            return Err(damaged("its head"));
        }
        let mut rest = vec![0; usize::from(len) + 4];
        if self.fill(&mut rest)? < rest.len() {
            return Err(damaged("it ends inside its head"));
        }
        let (text, sum) = rest.split_at(usize::from(len));
        if *sum != crc32fast::hash(&[&fixed[..], text].concat()).to_le_bytes() {
            return Err(damaged("the checksum of its head"));
        }
        let by = String::from_utf8_lossy(text).into_owned();
        if found != FORMAT {
            return Err(CaptureError::Version { found, by, ours: FORMAT });
        }
        self.at = (fixed.len() + rest.len()) as u64;
        Ok(by)
    }

    fn blocks(&mut self) -> Result<Option<Closed>, CaptureError> {
        let (mut stored, mut raw) = (Vec::new(), Vec::new());
        let mut inflate = format::inflater();
        loop {
            let mut head = [0; BLOCK_HEAD];
            let whole = self.fill(&mut head)? == head.len();
            // A file system may find room for bytes after a crash and not the bytes: they read as zeros.
            if !whole || head == [0; BLOCK_HEAD] {
                return Ok(None);
            }
            let block = BlockHead::parse(&head).ok_or(self.damaged("a block's head"))?;
            stored.resize(block.stored, 0);
            if self.fill(&mut stored)? < stored.len() {
                return Ok(None);
            }
            block.unpack(&stored, &mut inflate, &mut raw).map_err(|what| self.damaged(what))?;
            let closed = self.content(Kind::of(block.kind), &raw)?;
            self.at += (BLOCK_HEAD + stored.len()) as u64;
            if closed.is_some() {
                let nothing = self.fill(&mut [0])? == 0;
                return if nothing { Ok(closed) } else { Err(self.damaged("it goes on behind its end")) };
            }
        }
    }

    fn content(&mut self, kind: Option<Kind>, mut rest: &[u8]) -> Result<Option<Closed>, CaptureError> {
        match kind {
            None => self.unknown += 1,
            Some(Kind::Image) => {
                let (slot, image) = postcard::from_bytes(rest).map_err(|_e| self.damaged("its image"))?;
                (self.see)(Item::Image(slot, image));
            }
            Some(Kind::Pieces) => self.pieces(rest).ok_or(self.damaged("pieces of its image"))?,
            Some(Kind::Records) => {
                while !rest.is_empty() {
                    let bytes = take_bytes(&mut rest).ok_or(self.damaged("a record's length"))?;
                    self.records += 1;
                    match postcard::take_from_bytes::<Record>(bytes) {
                        Ok((record, [])) => (self.see)(Item::Record(record)),
                        Ok(_) | Err(_) => self.unknown += 1,
                    }
                }
            }
            Some(Kind::End) => {
                let end = (take_number(&mut rest), take_number(&mut rest));
                let (Some(records), Some(unrecorded)) = end else {
                    return Err(self.damaged("its end"));
                };
                return Ok(Some(Closed { records, unrecorded }));
            }
        }
        Ok(None)
    }

    fn pieces(&mut self, mut rest: &[u8]) -> Option<()> {
        let slot = Slot(u16::try_from(take_number(&mut rest)?).ok()?);
        while !rest.is_empty() {
            let at = ImageAddr(take_number(&mut rest)?);
            let bytes = take_bytes(&mut rest)?;
            (self.see)(Item::Piece(slot, at, bytes));
        }
        Some(())
    }

    fn damaged(&self, what: &'static str) -> CaptureError {
        CaptureError::Damaged { offset: self.at, what }
    }

    /// As many bytes as there are.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, CaptureError> {
        let mut done = 0;
        while done < buf.len() {
            match self.from.read(&mut buf[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(CaptureError::Read(e)),
            }
        }
        Ok(done)
    }
}

/// One record as recordings hold it, behind its length; `None`: it is larger than a recording may hold.
pub(super) fn put_record(record: &Record, to: &mut Vec<u8>) -> Option<()> {
    let bytes = postcard::to_stdvec(record).ok()?;
    if bytes.len() + 10 > format::MAX_RAW {
        return None;
    }
    format::put_number(bytes.len() as u64, to);
    to.extend(bytes);
    Some(())
}
