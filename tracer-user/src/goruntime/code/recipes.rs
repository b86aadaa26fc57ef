//! Addresses of the runtime's variables without a symbol table: the k-th address that a known function refers to.
//!
//! Apart because it is a table with its proof. Each (function, k) was compared with the symbol tables of binaries
//! of go1.19, 1.22, 1.24 to 1.27, position-independent ones included, and is the same in all of them. No answer
//! leaves this file unless it lies in the module's data and agrees with a second recipe where one is linked.

use super::super::error::GoError;
use super::super::image::GoImage;
use crate::binary::x86;
use crate::memory::ReadAt as _;
use crate::units::{Bytes, ImageAddr};

/// Where the runtime keeps what we read, as linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuntimeVars {
    /// `runtime.memstats`
    pub memstats: ImageAddr,
    /// `runtime.gcController`
    pub gc_controller: ImageAddr,
    /// `runtime.work`
    pub work: ImageAddr,
    /// `runtime.mheap_`
    pub mheap: ImageAddr,
    /// `runtime.allgs`, a slice
    pub allgs: ImageAddr,
    /// `runtime.allglen`, a word
    pub allglen: ImageAddr,
    /// `runtime.allgptr`, a pointer
    pub allgptr: ImageAddr,
    /// `runtime.allp`, a slice
    pub allp: ImageAddr,
    /// `runtime.sched`
    pub sched: ImageAddr,
    /// `runtime.gcphase`, 32 bits
    pub gcphase: ImageAddr,
    /// `runtime.gcBlackenEnabled`, 32 bits
    pub gc_blacken_enabled: ImageAddr,
    /// `runtime.MemProfileRate`, a word
    pub mem_profile_rate: ImageAddr,
    /// `runtime.mbuckets`, a pointer
    pub mbuckets: ImageAddr,
    /// `runtime.mProfCycle`, 32 bits. Absent where its functions are not as known: only the memory profile needs it.
    pub m_prof_cycle: Option<ImageAddr>,
    /// `runtime.firstmoduledata`
    pub first_module: ImageAddr,
    /// `runtime.waitReasonStrings`, an array of strings. Proven by its second text, or absent.
    pub wait_reason_strings: Option<ImageAddr>,
}

/// The k-th PC-relative reference (from 0, in address order) of a function.
#[derive(Clone, Copy)]
struct Recipe {
    function: &'static str,
    k: usize,
    /// The reference points this far into the variable.
    into: u64,
}

const fn at(function: &'static str, k: usize) -> Recipe {
    Recipe { function, k, into: 0 }
}

/// In which of the module's ranges a variable must lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    /// Zero at start, with pointers.
    Bss,
    /// Zero at start, without pointers.
    NoPtrBss,
    /// Any data: the range changed between releases.
    Data,
}

impl RuntimeVars {
    pub fn find(image: &GoImage) -> Result<Self, GoError> {
        let f = Finder { image };
        let vars = Self {
            memstats: f.find(
                "memstats",
                In::NoPtrBss,
                at("runtime.(*mcache).allocLarge", 1),
                &[at("runtime.readmemstats_m", 1), at("runtime.(*mcache).releaseAll", 2)],
            )?,
            gc_controller: f.find(
                "gcController",
                In::NoPtrBss,
                at("runtime.gcControllerCommit", 1),
                &[at("runtime.gcinit", 1), at("runtime.gcTrigger.test", 3)],
            )?,
            work: f.find(
                "work",
                In::Bss,
                at("runtime.putfull", 0),
                &[at("runtime.trygetfull", 0), at("runtime.prepareFreeWorkbufs", 1)],
            )?,
            mheap: f.find(
                "mheap_",
                In::Bss,
                at("runtime.getempty.func1", 0),
                &[
                    at("runtime.(*mcache).allocLarge", 0),
                    at("runtime.allocmcache.func1", 0),
                    at("runtime.gcSweep", 1),
                ],
            )?,
            allgs: f.find(
                "allgs",
                In::Bss,
                at("runtime.forEachG", 1),
                &[Recipe { function: "runtime.forEachG", k: 2, into: 8 }, at("runtime.allgadd", 7)],
            )?,
            allglen: f.find("allglen", In::NoPtrBss, at("runtime.forEachGRace", 0), &[])?,
            allgptr: f.find("allgptr", In::Bss, at("runtime.forEachGRace", 1), &[])?,
            allp: f.find(
                "allp",
                In::Bss,
                at("runtime.preemptall", 0),
                &[at("runtime.gcMarkTinyAllocs", 0)],
            )?,
            sched: f.find(
                "sched",
                In::Bss,
                Recipe { function: "runtime.wakeNetPoller", k: 0, into: 8 },
                &[Recipe { function: "runtime.wakeNetPoller", k: 1, into: 16 }],
            )?,
            gcphase: f.find(
                "gcphase",
                In::NoPtrBss,
                at("runtime.gcSweep", 0),
                &[at("runtime.(*gcWork).balance", 0)],
            )?,
            gc_blacken_enabled: f.find(
                "gcBlackenEnabled",
                In::NoPtrBss,
                at("runtime.checkIdleGCNoP", 0),
                &[at("runtime.gcParkAssist", 1)],
            )?,
            mem_profile_rate: f.find(
                "MemProfileRate",
                In::Data,
                at("runtime.profilealloc", 1),
                &[at("runtime.allocmcache", 2)],
            )?,
            mbuckets: f.find("mbuckets", In::Bss, at("runtime.mProf_FlushLocked", 0), &[])?,
            m_prof_cycle: f
                .find(
                    "mProfCycle",
                    In::NoPtrBss,
                    at("runtime.mProf_Flush", 0),
                    &[at("runtime.mProf_Free", 0), at("runtime.mProf_PostSweep", 0)],
                )
                .ok(),
            first_module: f.find(
                "firstmoduledata",
                In::Data,
                at("runtime.findfunc", 0),
                &[at("runtime.(*Func).Entry", 0)],
            )?,
            wait_reason_strings: f
                .resolve(at("runtime.waitReason.String", 1))
                .ok()
                .filter(|a| f.is_wait_reasons(*a)),
        };
        // A third, independent witness: the table found by its content.
        if vars.first_module != image.module().address {
            return Err(Finder::failed(
                "firstmoduledata",
                "the code refers to another module than the one found",
            ));
        }
        Ok(vars)
    }
}

struct Finder<'a> {
    image: &'a GoImage,
}

impl Finder<'_> {
    /// The first recipe decides; every other one whose function is linked must agree.
    fn find(
        &self,
        name: &'static str,
        place: In,
        first: Recipe,
        checks: &[Recipe],
    ) -> Result<ImageAddr, GoError> {
        let found = self.resolve(first).map_err(|why| Self::failed(name, &why))?;
        if !self.lies(found, place) {
            return Err(Self::failed(name, "the address found is not in the data it should be in"));
        }
        for check in checks {
            if self.image.function(check.function).is_none() {
                continue;
            }
            if self.resolve(*check).map_err(|why| Self::failed(name, &why))? != found {
                return Err(Self::failed(
                    name,
                    &format!("{} and {} disagree", first.function, check.function),
                ));
            }
        }
        Ok(found)
    }

    fn resolve(&self, recipe: Recipe) -> Result<ImageAddr, String> {
        let Recipe { function: name, k, into } = recipe;
        let function =
            self.image.function(name).ok_or_else(|| format!("{name} is not in the function table"))?;
        let bytes = self.image.text_bytes(&function).map_err(|e| format!("{name}: {e}"))?;
        let insns = x86::decode(&bytes, function.entry).map_err(|e| format!("{name}: {e}"))?;
        let found = x86::pc_relative(&insns).nth(k).ok_or_else(|| format!("{name} has no reference {k}"))?;
        found.0.checked_sub(into).map(ImageAddr).ok_or_else(|| format!("{name} refers to address {found}"))
    }

    fn lies(&self, addr: ImageAddr, place: In) -> bool {
        let m = self.image.module();
        match place {
            In::Bss => m.bss.contains(addr),
            In::NoPtrBss => m.noptrbss.contains(addr),
            In::Data => m.is_data(addr) || addr == m.address,
        }
    }

    /// The first reason is empty, the second has had one text since go1.10 (runtime/runtime2.go).
    fn is_wait_reasons(&self, addr: ImageAddr) -> bool {
        const SECOND: &[u8] = b"GC assist marking";
        let memory = self.image.memory();
        let text = || {
            let len = memory.read_u64(addr.plus(24)).ok()?;
            let at = self.image.pointer(addr.plus(16)).ok()?;
            (len == SECOND.len() as u64).then(|| memory.read_vec(at, SECOND.len(), Bytes(len)).ok())?
        };
        self.lies(addr, In::Data)
            && memory.read_u64(addr.plus(8)) == Ok(0)
            && text().as_deref() == Some(SECOND)
    }

    fn failed(field: &'static str, why: &str) -> GoError {
        GoError::Layout { field, failed: why.to_owned() }
    }
}
