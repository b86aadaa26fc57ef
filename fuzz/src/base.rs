//! What one real program left to be changed by fuzz targets: the bytes of its file and of its memory that tracer looks at.
//!
//! Made by `cargo run --release --example fuzz_bases PID FILE` (tracer-user), kept in fuzz/bases, packed. It holds no
//! parser; what it hands out may be as wrong as the targets make it.

use std::io::{Read as _, Write as _};

use serde::{Deserialize, Serialize};

/// Bytes at an offset or an address.
pub type Extent = (u64, Vec<u8>);

/// One program.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub struct Base {
    pub minor: u32,
    /// Length of the file; what is not in `file` reads as zeros.
    pub file_len: u64,
    pub file: Vec<Extent>,
    /// In order, apart from each other.
    pub memory: Vec<Extent>,
    /// memstats, gcController, work, allgs, allglen, allgptr, `mheap_`.
    pub vars: [u64; 7],
    pub wait_reasons: Option<u64>,
    /// mbuckets, the cycle, the rate.
    pub profile: Option<[u64; 3]>,
    pub bias: u64,
    pub inline_marks: bool,
    pub swiss: bool,
    /// Headers of maps, and their types.
    pub maps: Vec<(u64, u64)>,
    /// Objects of the heap, and places beside them.
    pub objects: Vec<u64>,
    /// The wall clock when the memory was read.
    pub unix_ns: u64,
}

impl Base {
    pub fn pack(&self) -> Vec<u8> {
        let raw = postcard::to_stdvec(self).expect("a vector takes everything");
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&raw).expect("a vector takes everything");
        packed.finish().expect("a vector takes everything")
    }

    pub fn unpack(packed: &[u8]) -> Self {
        let mut raw = Vec::new();
        flate2::read::ZlibDecoder::new(packed).read_to_end(&mut raw).expect("a base is whole");
        postcard::from_bytes(&raw).expect("a base is one")
    }
}
