//! Wire bytes to [`Event`]. The kernel side is ours, but a recording is not: any bytes are accepted, none panic.

use tracer_common::event::{
    KIND_SAMPLE, KIND_STACK, MAX_FRAMES, SAMPLE_BYTES, SAMPLE_MARKING, SAMPLE_STATELESS, STACK_CUT,
    STACK_HEADER_BYTES, STACK_TRUNCATED,
};

use super::reading::AllocClass;
use super::samples::{Born, Sample};
use super::{Body, Event, Record, Slot};
use crate::units::{Bytes, KTime, ProcAddr, StackId};

/// One ring record as a [`Record`]. `None`: not a record of ours (the caller counts it).
pub fn decode(bytes: &[u8]) -> Option<Record> {
    let kind = u16::from_le_bytes(bytes.get(0..2)?.try_into().ok()?);
    let slot = u16::from_le_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ktime = u64_at(bytes, 8)?;
    let event = match kind {
        KIND_STACK => stack(bytes)?,
        KIND_SAMPLE => sample(bytes)?,
        _ => return None,
    };
    Some(Record { slot: Slot(slot), time: KTime(ktime), body: Body::Event(event) })
}

fn stack(bytes: &[u8]) -> Option<Event> {
    let id = u64_at(bytes, 16)?;
    let count = u32_at(bytes, 24)? as usize;
    let flags = u32_at(bytes, 28)?;
    if count > MAX_FRAMES {
        return None;
    }
    let words = bytes.get(STACK_HEADER_BYTES..)?;
    let frames: Option<Vec<ProcAddr>> = (0..count).map(|i| u64_at(words, i * 8).map(ProcAddr)).collect();
    let truncated = flags & (STACK_TRUNCATED | STACK_CUT) != 0;
    Some(Event::Stack { id: StackId(id), frames: frames?, truncated })
}

/// The layout of `tracer_common::event::Sample`.
fn sample(bytes: &[u8]) -> Option<Event> {
    let bytes = bytes.get(..SAMPLE_BYTES)?;
    let flags = u32_at(bytes, 64)?;
    let generation = u32_at(bytes, 60)?;
    let born = Born { generation, marking: flags & SAMPLE_MARKING != 0 };
    let type_addr = u64_at(bytes, 32)?;
    Some(Event::Sample(Sample {
        address: ProcAddr(u64_at(bytes, 16)?),
        stack: StackId(u64_at(bytes, 24)?),
        type_addr: (type_addr != 0).then_some(ProcAddr(type_addr)),
        class: AllocClass::of_code(u32_at(bytes, 56)?),
        size: Bytes(u64_at(bytes, 40)?),
        g: ProcAddr(u64_at(bytes, 48)?),
        born: (flags & SAMPLE_STATELESS == 0).then_some(born),
        pin: u32_at(bytes, 68)?.checked_sub(1),
    }))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(flags: u32, frames: &[u64]) -> Vec<u8> {
        let mut bytes = vec![];
        bytes.extend(KIND_STACK.to_le_bytes());
        bytes.extend(3u16.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(77u64.to_le_bytes());
        bytes.extend(0xabcdu64.to_le_bytes());
        bytes.extend((frames.len() as u32).to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for f in frames {
            bytes.extend(f.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_stack_keeps_its_frames() {
        let record = decode(&wire(0, &[5, 6])).expect("a record");
        assert_eq!(record.slot, Slot(3));
        assert_eq!(record.time, KTime(77));
        let frames = vec![ProcAddr(5), ProcAddr(6)];
        assert_eq!(record.body, Body::Event(Event::Stack { id: StackId(0xabcd), frames, truncated: false }));
    }

    #[test]
    fn a_short_record_is_refused() {
        let bytes = wire(0, &[1, 2, 3]);
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..1200), stack in any::<bool>()) {
            let mut bytes = bytes;
            if stack && bytes.len() > 2 {
                bytes[..2].copy_from_slice(&KIND_STACK.to_le_bytes());
            }
            let _record = decode(&bytes);
        }
    }
}
