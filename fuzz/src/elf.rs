//! An ELF file with right headers around sections that are anything.

/// A file of these sections, each also in one writable segment from address 0x400000 on, and their names.
pub fn file(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const HEAD: usize = 64;
    const SEGMENT: usize = 56;
    let mut names = vec![0];
    let mut places = Vec::new();
    let mut out = vec![0; HEAD + SEGMENT];
    for (name, bytes) in sections {
        places.push((names.len(), out.len(), bytes.len()));
        names.extend(name.as_bytes());
        names.push(0);
        out.extend(*bytes);
    }
    let own = names.len();
    names.extend(b".shstrtab\0");
    places.push((own, out.len(), names.len()));
    out.extend(&names);
    let table = out.len();
    out.extend([0; 64]);
    for (n, (name, at, len)) in places.iter().enumerate() {
        // The last is the table of names, a string table; all others are the program's.
        let kind: u32 = if n + 1 == places.len() { 3 } else { 1 };
        out.extend((*name as u32).to_le_bytes());
        out.extend(kind.to_le_bytes());
        for word in [0, 0x40_0000 + *at as u64, *at as u64, *len as u64, 0, 1, 0] {
            out.extend(word.to_le_bytes());
        }
        // Link and info share one of the words above.
        debug_assert_eq!(out.len() % 64, table % 64);
    }
    let count = places.len() as u16 + 1;
    out[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    out[20] = 1;
    out[32] = HEAD as u8;
    out[40..48].copy_from_slice(&(table as u64).to_le_bytes());
    for (at, half) in [(52, 64), (54, SEGMENT as u16), (56, 1), (58, 64), (60, count), (62, count - 1)] {
        out[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    let len = table as u64;
    let segment = [1 | 6 << 32, 0, 0x40_0000, 0x40_0000, len, len, 0x1000];
    for (n, word) in segment.into_iter().enumerate() {
        out[HEAD + 8 * n..HEAD + 8 * n + 8].copy_from_slice(&u64::to_le_bytes(word));
    }
    out
}
