//! The two raw `bpf` calls for uprobe_multi, which aya 0.14 does not have: load a program with that attach
//! type, and make one link for many sites. To be deleted when the toolchain moves to an aya with its own.
//!
//! Kernel 6.6 (89ae89f53d20 "bpf: Add multi uprobe link"). Whether the kernel has it shows only at
//! LINK_CREATE: 6.1 loads a program with the attach type and refuses the link with EINVAL.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya::{Ebpf, maps::Map};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};

use super::{
    capability,
    error::{KernelError, chain},
};

/// Loads program `name` of `object` for uprobe_multi, on the maps that `ebpf` created from the same bytes.
pub(super) fn load(object: &[u8], ebpf: &Ebpf, name: &str) -> Result<OwnedFd, KernelError> {
    let broken = |e: &dyn std::error::Error| KernelError::Load(chain(e));
    let mut parsed = aya_obj::Object::parse(object).map_err(|e| broken(&e))?;
    let maps: HashMap<String, aya_obj::Map> = std::mem::take(&mut parsed.maps);
    let text: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
    let fds = maps.iter().filter_map(|(name, map)| Some((name.as_str(), fd(ebpf.map(name))?, map)));
    parsed.relocate_maps(fds, &text).map_err(|e| broken(&e))?;
    parsed.relocate_calls(&text).map_err(|e| broken(&e))?;
    let missing = || KernelError::Load(format!("the object has no program {name}"));
    let program = parsed.programs.get(name).ok_or_else(missing)?;
    let function = parsed.functions.get(&program.function_key()).ok_or_else(missing)?;

    // SAFETY: bpf_attr is a union of plain integers; all zero is its documented empty value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    let mut log = vec![0u8; 1 << 16];
    // SAFETY: BPF_PROG_LOAD uses this member; the pointers outlive the call.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    load.insns = function.instructions.as_ptr() as u64;
    load.insn_cnt = function.instructions.len() as u32;
    load.license = program.license.as_ptr() as u64;
    match patient(|| bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)) {
        Ok(fd) => return Ok(fd),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => return Err(capability::missing()),
        Err(_) => {}
    }
    // Once more with the verifier's log, which costs time and is wanted only on failure.
    // SAFETY: as above.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.log_buf = log.as_mut_ptr() as u64;
    load.log_size = log.len() as u32;
    load.log_level = 1;
    patient(|| bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)).map_err(|e| {
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.trim_end_matches('\0').lines().collect();
        let tail = lines[lines.len().saturating_sub(3)..].join("; ");
        KernelError::Load(format!("{e}: {tail}"))
    })
}

/// One link for all `offsets` of the file at `path`, for process `pid` only.
pub(super) fn link(
    program: BorrowedFd<'_>,
    path: &CString,
    offsets: &[u64],
    cookies: &[u64],
    pid: u32,
) -> io::Result<OwnedFd> {
    assert_eq!(offsets.len(), cookies.len(), "one cookie per site");
    // SAFETY: as in `load`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: BPF_LINK_CREATE with this attach type uses these members; the pointers outlive the call.
    unsafe {
        let create = &mut attr.link_create;
        create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        create.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
        let multi = &mut create.__bindgen_anon_3.uprobe_multi;
        multi.path = path.as_ptr() as u64;
        multi.offsets = offsets.as_ptr() as u64;
        multi.cookies = cookies.as_ptr() as u64;
        multi.cnt = offsets.len() as u32;
        multi.pid = pid;
    }
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// The verifier stops with EAGAIN when a signal waits, be it only our own Ctrl-C (kernel/bpf/verifier.c, do_check): asked
/// again after the handler ran, as libbpf does (tools/lib/bpf/bpf.c, PROG_LOAD_ATTEMPTS).
fn patient<T>(mut load: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const ATTEMPTS: u32 = 5;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match load() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && left > 0 => {}
            answer => return answer,
        }
    }
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a valid bpf_attr of the size passed; the kernel reads it and what it points to.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new file descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The descriptor of a map of the kinds the object has.
fn fd(map: Option<&Map>) -> Option<RawFd> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::PerCpuArray(data)
    | Map::PerCpuHashMap(data)
    | Map::LruHashMap(data)
    | Map::RingBuf(data)) = map?
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_a_signal_stopped_is_asked_again() {
        let fails = |errno: i32, times: u32| {
            let mut asked = 0;
            let answer = patient(|| {
                asked += 1;
                if asked <= times { Err(io::Error::from_raw_os_error(errno)) } else { Ok(asked) }
            });
            answer.map_err(|_refused| asked)
        };
        assert_eq!(fails(libc::EAGAIN, 2), Ok(3));
        assert_eq!(fails(libc::EAGAIN, 100), Err(5));
        assert_eq!(fails(libc::EINVAL, 100), Err(1));
    }
}
