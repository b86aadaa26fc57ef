//! The writer thread and its queue. The session hands bytes on and never waits: what the queue cannot take is dropped
//! and counted, and a disk that is full ends the recording, not the session.

use std::{
    fs::File,
    io::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    CaptureError, NewFile,
    format::{self, Kind, MAX_RAW, put_number},
    reader::put_record,
};
use crate::{
    record::{Record, Slot, image::Image},
    units::ImageAddr,
};

/// A piece of an image.
pub type Part = (ImageAddr, Vec<u8>);

/// Raw bytes after which a block is handed on: large enough to pack well, small enough to be soon on disk.
const BLOCK: usize = 64 << 10;
/// A block is handed on after this long, full or not: what a SIGKILL can take.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Blocks that may wait, and their bytes: what the thread is behind while it writes the name tables of a large
/// program, or while a disk is slow. A single block may be larger by one record.
const QUEUE: usize = 512;
const QUEUE_BYTES: usize = 16 << 20;
/// Bytes of the image packed at once.
const PART: usize = 256 << 10;

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    queue: Option<SyncSender<Chunk>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    slot: Slot,
    records: Vec<u8>,
    count: u64,
    pieces: Vec<u8>,
    flushed: Instant,
}

/// One block's content on its way.
#[derive(Debug)]
struct Chunk {
    kind: Kind,
    raw: Vec<u8>,
    records: u64,
}

/// What both sides know.
#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    /// Records on disk.
    kept: AtomicU64,
    /// Records, and pieces of the image counted as one each, that are not.
    lost: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Shared {
    fn lose(&self, n: u64) {
        self.lost.fetch_add(n, Ordering::Relaxed);
    }

    fn fail(&self, why: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

impl Recorder {
    /// Begins the recording of a session on `image`, whose name sections `parts` brings.
    pub fn start(
        file: NewFile,
        slot: Slot,
        image: &Image,
        parts: impl Iterator<Item = Part> + Send + 'static,
    ) -> Result<Self, CaptureError> {
        let shared = Arc::new(Shared::default());
        let (queue, chunks) = sync_channel(QUEUE);
        let told = postcard::to_stdvec(&(slot, image)).unwrap_or_default();
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write(file, slot, &told, parts, &chunks, &writer))
            .map_err(CaptureError::Thread)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            shared,
            slot,
            records: Vec::new(),
            count: 0,
            pieces: Vec::new(),
            flushed: Instant::now(),
        })
    }

    /// Keeps a record.
    pub fn record(&mut self, record: &Record) {
        let before = self.records.len();
        if put_record(record, &mut self.records).is_none() {
            self.shared.lose(1);
            return;
        }
        // A block holds no more than a reader takes.
        if self.records.len() > MAX_RAW {
            let last = self.records.split_off(before);
            self.hand_on_records();
            self.records = last;
        }
        self.count += 1;
        if self.records.len() >= BLOCK {
            self.flush();
        }
    }

    /// Says of another image in the same process, whose pieces follow; addresses are those of the first one's space.
    pub fn image(&mut self, image: &Image) {
        self.flush();
        let raw = postcard::to_stdvec(&(self.slot, image)).unwrap_or_default();
        self.hand_on(Chunk { kind: Kind::Image, raw, records: 0 });
    }

    /// Keeps bytes of the image that the records kept from here on need.
    pub fn piece(&mut self, at: ImageAddr, bytes: &[u8]) {
        put_piece(self.slot, at, bytes, &mut self.pieces);
        if self.pieces.len() >= BLOCK {
            self.flush();
        }
    }

    /// Called often: hands on what has waited long enough.
    pub fn tick(&mut self) {
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flush();
        }
    }

    /// Bytes that wait for the disk, or for their packing. Who makes records faster than a target may wait for them.
    pub fn waiting(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// Records that are not in the recording so far.
    pub fn unrecorded(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Why nothing more is written.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the recording. What is not on disk by then is lost, and `failure` says so.
    pub fn close(&mut self, within: Duration) {
        let until = Instant::now() + within;
        self.flush();
        // The queue may be full: the end waits for room, but not for ever.
        let mut end = Some(Chunk { kind: Kind::End, raw: Vec::new(), records: 0 });
        while let (Some(queue), Some(chunk)) = (&self.queue, end.take()) {
            match queue.try_send(chunk) {
                Err(TrySendError::Full(chunk)) if Instant::now() < until => {
                    end = Some(chunk);
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => {}
            }
        }
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                self.shared.fail(format!("it could not be written within {} s", within.as_secs()));
            }
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        if !self.pieces.is_empty() {
            let raw = std::mem::take(&mut self.pieces);
            self.hand_on(Chunk { kind: Kind::Pieces, raw, records: 0 });
        }
        self.hand_on_records();
    }

    fn hand_on_records(&mut self) {
        if !self.records.is_empty() {
            let raw = std::mem::take(&mut self.records);
            let records = std::mem::take(&mut self.count);
            self.hand_on(Chunk { kind: Kind::Records, raw, records });
        }
    }

    fn hand_on(&mut self, chunk: Chunk) {
        let (bytes, lost) = (chunk.raw.len(), chunk.records.max(1));
        let fits = self.shared.queued.load(Ordering::Relaxed) < QUEUE_BYTES;
        // Counted before it is sent: the thread takes it off again.
        self.shared.queued.fetch_add(bytes, Ordering::Relaxed);
        let sent = fits && self.queue.as_ref().is_some_and(|queue| queue.try_send(chunk).is_ok());
        if !sent {
            self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.lose(lost);
        }
    }
}

fn put_piece(slot: Slot, at: ImageAddr, bytes: &[u8], to: &mut Vec<u8>) {
    if to.is_empty() {
        put_number(u64::from(slot.0), to);
    }
    put_number(at.0, to);
    put_number(bytes.len() as u64, to);
    to.extend(bytes);
}

/// The thread: head, image, name sections, then blocks as they come, until the queue closes.
fn write(
    file: NewFile,
    slot: Slot,
    image: &[u8],
    parts: impl Iterator<Item = Part>,
    chunks: &Receiver<Chunk>,
    shared: &Shared,
) {
    let mut disk = match file.begin() {
        Ok(file) => Disk { file, at: 0, shared, whole: true },
        Err(e) => {
            shared.fail(e.to_string());
            return;
        }
    };
    disk.put(&format::head(env!("CARGO_PKG_VERSION")));
    disk.put(&format::block(Kind::Image, image));
    let mut raw = Vec::new();
    for (at, bytes) in parts {
        put_piece(slot, at, &bytes, &mut raw);
        if raw.len() >= PART {
            disk.put(&format::block(Kind::Pieces, &raw));
            raw.clear();
        }
    }
    if !raw.is_empty() {
        disk.put(&format::block(Kind::Pieces, &raw));
    }
    for Chunk { kind, mut raw, records } in chunks {
        shared.queued.fetch_sub(raw.len(), Ordering::Relaxed);
        if kind == Kind::End {
            put_number(shared.kept.load(Ordering::Relaxed), &mut raw);
            put_number(shared.lost.load(Ordering::Relaxed), &mut raw);
        }
        if disk.put(&format::block(kind, &raw)) {
            shared.kept.fetch_add(records, Ordering::Relaxed);
        } else if kind != Kind::End {
            shared.lose(records.max(1));
        }
    }
    disk.settle();
}

/// The file, which only ever holds whole blocks.
struct Disk<'a> {
    file: File,
    /// Where the last whole block ends.
    at: u64,
    shared: &'a Shared,
    whole: bool,
}

impl Disk<'_> {
    /// False where it could not be written, now or before: after a gap nothing more is.
    fn put(&mut self, bytes: &[u8]) -> bool {
        if !self.whole {
            return false;
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.at += bytes.len() as u64,
            Err(e) => {
                self.fail(&e);
                // Half a block is of no use; where it cannot be cut off, a reader stops before it all the same.
                drop(self.file.set_len(self.at));
            }
        }
        self.whole
    }

    /// The session's end is on disk when the session says so.
    fn settle(&mut self) {
        if let (true, Err(e)) = (self.whole, self.file.sync_data()) {
            self.fail(&e);
        }
    }

    fn fail(&mut self, e: &std::io::Error) {
        self.whole = false;
        self.shared.fail(e.to_string());
    }
}
