//! The committed eBPF object: its maps, its one program, its control rows.

use std::{
    hash::{BuildHasher as _, RandomState},
    os::fd::OwnedFd,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues},
};
use tracer_common::{
    control::{PinControl, TargetControl},
    cookie::Shape,
    key::{Pending, PendingKey},
};

use super::{
    attach::AttachChoice,
    capability::{self, Capabilities},
    error::{KernelError, chain},
    multi,
    ring::Ring,
    tables::Tables,
};
use crate::record::Slot;

/// The object as `cargo xtask ebpf` built it; tidy holds its digest against the sources.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../ebpf/tracer-x86_64.o");
/// The object's only program.
pub(super) const PROGRAM: &str = "tracer";

/// A loaded object: maps exist, nothing is attached yet.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    /// The program as uprobe_multi wants it, or why it did not load; absent where single links are to be used.
    /// Loaded before any map is taken, because it is relocated against the maps in `ebpf`.
    pub(super) multi: Option<Result<OwnedFd, KernelError>>,
    /// Whether single links may stand in for a multi link that the kernel refuses.
    pub(super) falls_back: bool,
    targets: Array<MapData, TargetControl>,
}

impl Kernel {
    /// Creates the maps, and decides between one link and single links for good. Needs CAP_BPF and CAP_PERFMON.
    /// A table that none of `shapes` fills takes no memory.
    pub fn load(
        choice: AttachChoice,
        capabilities: &Capabilities,
        shapes: &[Shape],
    ) -> Result<Self, KernelError> {
        let mut loader = EbpfLoader::new();
        let samples: &[Shape] = &[Shape::SampleBegin];
        let of_maps: &[Shape] = &[Shape::MapWrite, Shape::MapDelete, Shape::MapGrow];
        for (table, fill) in
            [("ALLOCS", [Shape::Alloc].as_slice()), ("MAP_CALLS", of_maps), ("PENDING", samples)]
        {
            if !shapes.iter().any(|shape| fill.contains(shape)) {
                loader.map_max_entries(table, 1);
            }
        }
        let mut ebpf = loader.load(OBJECT).map_err(|e| {
            let text = chain(&e);
            if text.contains("Operation not permitted") || text.contains("os error 1)") {
                return capability::missing();
            }
            KernelError::Load(text)
        })?;
        let one_link = match choice {
            AttachChoice::Single => false,
            AttachChoice::Multi => true,
            AttachChoice::Auto => capabilities.filters_multi_by_process(),
        };
        let multi = one_link.then(|| multi::load(OBJECT, &ebpf, PROGRAM));
        let targets = take(&mut ebpf, "TARGETS")?;
        Ok(Self { ebpf, multi, falls_back: choice == AttachChoice::Auto, targets })
    }

    /// Whether the program loads as one link for all probes wants it; an error says why not.
    pub fn loads(&self) -> Result<(), String> {
        match &self.multi {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(e)) => Err(e.to_string()),
        }
    }

    /// Sets the control row of a target; must be done before its probes are attached.
    pub fn set_target(&mut self, slot: Slot, control: TargetControl) -> Result<(), KernelError> {
        self.targets
            .set(u32::from(slot.0), control, 0)
            .map_err(|e| KernelError::Map { map: "TARGETS", why: chain(&e) })
    }

    /// Says what the call under a probe allocates, and draws each CPU's distance to its next sample; must be done before the probe
    /// is attached, and may be again with another mean, of the next era.
    pub fn set_pin(&mut self, probe: u32, pin: PinControl) -> Result<(), KernelError> {
        const MAP: &str = "PINS";
        let failed = |why: String| KernelError::Map { map: MAP, why };
        let map = self.ebpf.map_mut(MAP).ok_or_else(|| failed("not in the object".into()))?;
        let mut map: Array<&mut MapData, PinControl> = Array::try_from(map).map_err(|e| failed(chain(&e)))?;
        map.set(probe, pin, 0).map_err(|e| failed(chain(&e)))?;
        self.draw("PIN_DISTANCES", probe, pin.mean)
    }

    /// Forgets the sampled allocations that wait for their object where the allocator's own functions chose them; how many.
    pub fn forget_pending(&mut self) -> Result<u64, KernelError> {
        const MAP: &str = "PENDING";
        let failed = |why: String| KernelError::Map { map: MAP, why };
        let map = self.ebpf.map_mut(MAP).ok_or_else(|| failed("not in the object".into()))?;
        let mut map: HashMap<&mut MapData, PendingKey, Pending> =
            HashMap::try_from(map).map_err(|e| failed(chain(&e)))?;
        let waiting: Vec<PendingKey> =
            map.iter().flatten().filter(|(_, of)| of.pin == 0).map(|(key, _)| key).collect();
        // Gone already where its object came after all.
        Ok(waiting.iter().filter(|key| map.remove(key).is_ok()).count() as u64)
    }

    /// Draws each CPU's distance to its first sample; must be done before probes are attached. Seeds are the process's own
    /// random state: no two sessions sample the same allocations.
    pub fn draw_distances(&mut self, slot: Slot, mean: u64) -> Result<(), KernelError> {
        self.draw("DISTANCES", u32::from(slot.0), mean)
    }

    fn draw(&mut self, name: &'static str, index: u32, mean: u64) -> Result<(), KernelError> {
        let failed = |why: String| KernelError::Map { map: name, why };
        let cpus = aya::util::nr_cpus().map_err(|(what, e)| failed(format!("{what}: {e}")))?;
        let draw = |cpu: usize| {
            let random = RandomState::new().hash_one(cpu) as u32;
            tracer_common::sample::distance(mean, random).cast_unsigned()
        };
        let values = PerCpuValues::try_from((0..cpus).map(draw).collect::<Vec<u64>>())
            .map_err(|e| failed(chain(&e)))?;
        let map = self.ebpf.map_mut(name).ok_or_else(|| failed("not in the object".into()))?;
        let mut map: PerCpuArray<&mut MapData, u64> =
            PerCpuArray::try_from(map).map_err(|e| failed(chain(&e)))?;
        map.set(index, values, 0).map_err(|e| failed(chain(&e)))
    }

    /// The ring buffer; once.
    pub fn ring(&mut self) -> Result<Ring, KernelError> {
        take(&mut self.ebpf, "RING").map(Ring::new)
    }

    /// The counting tables; once.
    pub fn tables(&mut self, class_bytes: Vec<u64>) -> Result<Tables, KernelError> {
        Ok(Tables {
            hits: take(&mut self.ebpf, "HITS")?,
            times: take(&mut self.ebpf, "TIMES")?,
            losses: take(&mut self.ebpf, "LOSSES")?,
            allocs: take(&mut self.ebpf, "ALLOCS")?,
            map_calls: take(&mut self.ebpf, "MAP_CALLS")?,
            goroutines: take(&mut self.ebpf, "GOROUTINES")?,
            class_bytes,
        })
    }

    /// What the eBPF side logs (a bug in tracer when it says anything) goes to `sink`, one line each.
    pub fn logger<L: log::Log>(&mut self, sink: L) -> Result<aya_log::EbpfLogger<L>, KernelError> {
        aya_log::EbpfLogger::init_with_logger(&mut self.ebpf, sink)
            .map_err(|e| KernelError::Map { map: "AYA_LOGS", why: chain(&e) })
    }
}

fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, KernelError>
where
    T: TryFrom<aya::maps::Map>,
    T::Error: std::error::Error,
{
    let map = ebpf
        .take_map(name)
        .ok_or(KernelError::Map { map: name, why: "not in the object, or taken before".into() })?;
    T::try_from(map).map_err(|e| KernelError::Map { map: name, why: chain(&e) })
}
