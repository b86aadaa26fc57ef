//! The kernel's counting tables, summed over CPUs into one reading.

use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};
use tracer_common::{
    control::Times,
    counter::Counter,
    key::{AllocKey, AllocValue, CLASS_LARGE, GoKey, GoValue, MAP_DELETE, MAP_GROW, MAP_WRITE, MapKey},
};

use super::error::{KernelError, chain};
use crate::{
    record::reading::{AllocClass, AllocCount, Counts, GoroutineCount, MapCall, MapCallCount},
    units::{Bytes, ProcAddr, StackId},
};

/// The tables of one loaded object.
pub struct Tables {
    pub(super) hits: PerCpuArray<MapData, u64>,
    pub(super) times: PerCpuArray<MapData, Times>,
    pub(super) losses: PerCpuArray<MapData, u64>,
    pub(super) allocs: PerCpuHashMap<MapData, AllocKey, AllocValue>,
    pub(super) map_calls: PerCpuHashMap<MapData, MapKey, u64>,
    pub(super) goroutines: PerCpuHashMap<MapData, GoKey, GoValue>,
    /// Bytes of an object of each size class, by class number.
    pub(super) class_bytes: Vec<u64>,
}

/// What one probe has taken so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spending {
    pub hits: u64,
    /// What the program itself took in those of them that were timed, and how many those are.
    pub timed_ns: u64,
    pub timed: u64,
}

impl Tables {
    /// Hits of one probe since it was first attached.
    pub(super) fn hits_of(&self, probe: u16) -> Result<u64, KernelError> {
        let per_cpu = self.hits.get(&u32::from(probe), 0).map_err(|e| failed("HITS", &e))?;
        Ok(per_cpu.iter().sum())
    }

    /// What one probe has taken since it was first attached.
    pub fn spending(&self, probe: u16) -> Result<Spending, KernelError> {
        let mut spending = Spending { hits: self.hits_of(probe)?, ..Spending::default() };
        let times = self.times.get(&u32::from(probe), 0).map_err(|e| failed("TIMES", &e))?;
        for Times { ns, hits } in times.iter() {
            spending.timed_ns = spending.timed_ns.saturating_add(*ns);
            spending.timed = spending.timed.saturating_add(*hits);
        }
        Ok(spending)
    }

    /// Everything counted since attach, for `probes` probes.
    pub fn read(&self, probes: usize) -> Result<Counts, KernelError> {
        let mut counts = Counts::default();
        for probe in 0..probes as u16 {
            counts.hits.push(self.hits_of(probe)?);
        }
        for counter in Counter::ALL {
            let per_cpu = self.losses.get(&(counter as u32), 0).map_err(|e| failed("LOSSES", &e))?;
            let n: u64 = per_cpu.iter().sum();
            if n != 0 {
                counts.losses.push((counter, n));
            }
        }
        for entry in &self.allocs {
            let (key, values) = entry.map_err(|e| failed("ALLOCS", &e))?;
            counts.allocs.push(self.alloc(key, &values));
        }
        for entry in &self.map_calls {
            let (MapKey { stack, type_addr, map, slot: _, event }, values) =
                entry.map_err(|e| failed("MAP_CALLS", &e))?;
            let call = match event {
                MAP_WRITE => MapCall::Write,
                MAP_DELETE => MapCall::Delete,
                MAP_GROW => MapCall::Grow,
                // The kernel side writes no other.
                _ => continue,
            };
            counts.map_calls.push(MapCallCount {
                stack: StackId(stack),
                type_addr: ProcAddr(type_addr),
                map: ProcAddr(map),
                call,
                calls: values.iter().sum(),
            });
        }
        for entry in &self.goroutines {
            let (GoKey { created_at, slot: _ }, values) = entry.map_err(|e| failed("GOROUTINES", &e))?;
            counts.goroutines.push(GoroutineCount {
                created_at: ProcAddr(created_at),
                created: values.iter().map(|v| v.created).sum(),
                ended: values.iter().map(|v| v.ended).sum(),
            });
        }
        Ok(counts)
    }

    fn alloc(&self, key: AllocKey, values: &[AllocValue]) -> AllocCount {
        let AllocKey { stack, type_addr, class, slot: _ } = key;
        let objects = values.iter().map(|v| v.objects).sum();
        let number = (class & 0xff) as u8;
        let (class, rounded) = if class == CLASS_LARGE {
            (AllocClass::Large, values.iter().map(|v| v.pages_bytes).sum())
        } else {
            let each = self.class_bytes.get(usize::from(number)).copied().unwrap_or(0);
            (AllocClass::of_code(class), each.saturating_mul(objects))
        };
        AllocCount {
            stack: StackId(stack),
            type_addr: (type_addr != 0).then_some(ProcAddr(type_addr)),
            class,
            objects,
            requested: Bytes(values.iter().map(|v| v.requested).sum()),
            rounded: Bytes(rounded),
        }
    }
}

fn failed(map: &'static str, e: &dyn std::error::Error) -> KernelError {
    KernelError::Map { map, why: chain(e) }
}
