//! The kernel side on code of the tests' own: two probed instructions that are reached with registers the test chooses, and what the
//! kernel side made of its hits.
//!
//! Apart because it stands where a Go program stands otherwise: what no program does at will (a g that is nowhere, a stack without an end)
//! is asked for here. It probes the test's own process and nothing else, and lets go when it is dropped.

use std::arch::naked_asm;

use tracer_common::control::TargetControl;
use tracer_common::cookie::Cookie;
use tracer_user::aggregate::Ledger;
use tracer_user::analyze;
use tracer_user::host::process::{Mapping, Process};
use tracer_user::kernel::capability::Capabilities;
use tracer_user::kernel::tables::Tables;
use tracer_user::kernel::{AttachChoice, Attachment, Kernel, Site};
use tracer_user::record::reading::{Counts, Readout};
use tracer_user::record::{Body, Reading, Record, Slot};
use tracer_user::report::build::{Attach, Sampler};
use tracer_user::report::{self, Report, SessionFacts, TargetFacts};
use tracer_user::symbolize::{Frame, Names, PcKind, Symbolizer, TypeInfo};
use tracer_user::units::{FileOffset, KTime, Pid, ProcAddr};

pub use tracer_common::cookie::Shape;

/// Words of a stack that nobody uses: the stack pointer is in its middle.
const STACK_WORDS: usize = 64;

/// What the machine's registers hold at a probe; Go's names for them are in `tracer-ebpf/src/goabi.rs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    /// First argument, and first result.
    pub rax: u64,
    /// Second argument.
    pub rbx: u64,
    /// Third argument.
    pub rcx: u64,
    /// The g.
    pub r14: u64,
    /// 0: no frames.
    pub rbp: u64,
    /// 0: a stack that is there.
    pub rsp: u64,
}

/// Which of the two probed instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    First,
    Second,
}

impl At {
    fn address(self) -> usize {
        match self {
            Self::First => first as *const () as usize,
            Self::Second => second as *const () as usize,
        }
    }
}

/// An address at which nothing is.
pub const NOWHERE: u64 = 16;

/// A loaded kernel side, attached to this process.
pub struct KernelSide {
    // Before the kernel side, whose program it runs.
    attachment: Option<Attachment>,
    pub kernel: Kernel,
    tables: Tables,
    mappings: Vec<Mapping>,
    pid: Pid,
    stack: Box<[u64; STACK_WORDS]>,
}

impl KernelSide {
    /// Tables that none of `shapes` fills have room for one entry. `change` makes the row of this process what a test needs.
    pub fn load(shapes: &[Shape], change: impl FnOnce(&mut TargetControl)) -> Self {
        let me = Process::open(Pid(std::process::id())).expect("it is this process");
        let namespace = me.pid_namespace().expect("it has one");
        let mut control = TargetControl::only(namespace.pid.0, namespace.dev, namespace.inode);
        control.sample.mean = 1;
        change(&mut control);
        let mut kernel = Kernel::load(AttachChoice::Auto, &Capabilities::read(), shapes).expect("it loads");
        kernel.set_target(Slot(0), control).expect("there is a row");
        kernel.draw_distances(Slot(0), 1).expect("there is a row");
        let tables = kernel.tables(Vec::new()).expect("nobody took them");
        let mappings = me.exe_mappings().expect("they can be read");
        let stack = Box::new([0; STACK_WORDS]);
        Self { attachment: None, kernel, tables, mappings, pid: me.pid(), stack }
    }

    /// What the two instructions are to the kernel side; by shape, flags and the target's slot.
    #[must_use]
    pub fn probed(mut self, cookies: &[(At, Shape, u8, u16)]) -> Self {
        let site = |(at, shape, flags, slot): &(At, Shape, u8, u16)| {
            let address = at.address() as u64;
            let of =
                self.mappings.iter().find(|of| of.executable && (of.start.0..of.end.0).contains(&address));
            let of = of.expect("the code is in the executable");
            let cookie = Cookie { shape: *shape, flags: *flags, slot: *slot, probe: 0, place: 0 };
            Site { offset: FileOffset(of.offset.0 + (address - of.start.0)), cookie }
        };
        let sites: Vec<Site> = cookies.iter().map(site).collect();
        self.attachment = Some(self.kernel.attach("/proc/self/exe", self.pid, &sites).expect("it attaches"));
        self
    }

    /// Hits a probe.
    pub fn hit(&self, at: At, mut registers: Registers) {
        if registers.rsp == 0 {
            registers.rsp = &raw const self.stack[STACK_WORDS / 2] as u64;
        }
        enter(&raw const registers, at.address());
    }

    /// What the kernel side has counted.
    pub fn counts(&self) -> Counts {
        self.tables.read(1).expect("they can be read")
    }

    /// A report of it.
    pub fn report(&self) -> Report {
        report(vec![counted(self.counts())])
    }
}

/// Frames as compilers lay them out: each begins with the address of the next one, behind which is its return address. No two with
/// another `number` are the same stack.
pub fn frames(deep: usize, number: u64) -> Box<[[u64; 2]]> {
    let mut all = vec![[0, 0]; deep].into_boxed_slice();
    let at = all.as_ptr() as u64;
    for (n, frame) in all.iter_mut().enumerate() {
        let next = if n + 1 == deep { 0 } else { at + 16 * (n as u64 + 1) };
        *frame = [next, (number << 12) + n as u64];
    }
    all
}

/// A reading of the kernel side's tables, as the session makes it.
pub fn counted(counts: Counts) -> Record {
    let reading = Reading { from: KTime(1), gc_cycle: None, readout: Readout::Counts(counts) };
    Record { slot: Slot(0), time: KTime(2_000_000_000), body: Body::Reading(reading) }
}

/// The report of these records.
pub fn report(records: Vec<Record>) -> Report {
    let mut ledger = Ledger::new(Slot(0), KTime(1));
    for record in records {
        ledger.apply(record);
    }
    let evidence = Symbolizer::new().evidence(&ledger, &Nameless);
    let facts = SessionFacts {
        tracer_version: String::new(),
        kernel: String::new(),
        target: TargetFacts::default(),
        started_at: report::moment::Moment { unix_ms: 0 },
        sampler: Sampler::All,
        sampler_reason: String::new(),
        attach: Attach::Multi,
        events: None,
        cost: report::model::Cost::default(),
        ended_by: None,
    };
    report::report(&facts, &evidence, &analyze::judge(&evidence))
}

struct Nameless;

impl Names for Nameless {
    fn frames(&self, _: ProcAddr, _: PcKind) -> Vec<Frame> {
        Vec::new()
    }
    fn type_info(&self, _: ProcAddr) -> Option<TypeInfo> {
        None
    }
    fn module(&self) -> Option<String> {
        None
    }
}

/// Goes to `site` with these registers, on their stack, and comes back.
#[unsafe(naked)]
extern "C" fn enter(registers: *const Registers, site: usize) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r14",
        "mov r12, rsp",
        "mov rax, [rdi]",
        "mov rbx, [rdi + 8]",
        "mov rcx, [rdi + 16]",
        "mov r14, [rdi + 24]",
        "mov rbp, [rdi + 32]",
        "mov rsp, [rdi + 40]",
        "jmp rsi",
    )
}

#[unsafe(naked)]
extern "C" fn first() {
    naked_asm!("nop", "jmp {leave}", leave = sym leave)
}

#[unsafe(naked)]
extern "C" fn second() {
    naked_asm!("nop", "jmp {leave}", leave = sym leave)
}

/// The way back of [`enter`].
#[unsafe(naked)]
extern "C" fn leave() {
    naked_asm!("mov rsp, r12", "pop r14", "pop r12", "pop rbp", "pop rbx", "ret")
}
