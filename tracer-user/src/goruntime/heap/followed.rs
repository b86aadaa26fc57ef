//! Objects followed by address: whether the collector's marks of each cycle found them.
//!
//! Apart from the census, which counts all objects and knows none: this knows a few, by where they are. A mark bit says
//! that something at that address was reached, not that it is still the object we knew. So each cycle is looked at: an
//! object that was there in every one is the same object, and where a cycle was missed a set bit says nothing. A clear
//! bit always says that the object is gone, for a living one is marked in each cycle. What is allocated while the
//! collector marks counts as reached, so that cycle tells nothing of it (runtime/malloc.go, gcmarknewobject).
//!
//! An object with a finalizer that is not reached counts as gone, although its memory stays for one more cycle.

use super::census::HeapShape;
pub use super::marks::generation;
use super::marks::{Identity, Look, look};
use super::spans::PER_CYCLE;
use crate::goruntime::state::{RuntimeState, StateError};
use crate::memory::ReadAt;
use crate::record::samples::{Born, Fates, MAX_FOLLOWED, SampleKey};
use crate::units::ProcAddr;

/// The objects that are followed now, at most [`MAX_FOLLOWED`].
#[derive(Debug, Default)]
pub struct Follower {
    objects: Vec<Object>,
    /// As of this generation nothing is due of so many, which come first.
    done: Option<(u32, usize)>,
    /// Of which nothing can be told, said with the next look: there was no room, or no collector's state.
    unknown: Vec<SampleKey>,
}

#[derive(Clone, Copy, Debug)]
struct Object {
    key: SampleKey,
    /// The last generation that told of it, or the one before the first that can.
    told: u32,
    knowledge: Knowledge,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Knowledge {
    /// No cycle has told yet.
    None,
    /// Found, in this span.
    Lives(Identity),
    /// May be another object by now.
    Lost,
}

impl Follower {
    /// Follows an object from now on.
    pub fn follow(&mut self, key: SampleKey, born: Option<Born>) {
        if self.objects.len() >= MAX_FOLLOWED {
            self.unknown.push(key);
            return;
        }
        let (told, knowledge) = if let Some(Born { generation, marking }) = born {
            // The cycle that marks now, or none: the next one tells.
            (generation.wrapping_add(if marking { PER_CYCLE } else { 0 }), Knowledge::None)
        } else {
            self.unknown.push(key);
            (0, Knowledge::Lost)
        };
        self.objects.push(Object { key, told, knowledge });
    }

    /// What the marks of the last completed cycle say. `None`: nothing new, or a cycle ended meanwhile.
    pub fn check(
        &mut self,
        memory: &dyn ReadAt<ProcAddr>,
        state: &RuntimeState,
        shape: HeapShape,
    ) -> Result<Option<Fates>, StateError> {
        let now = generation(memory, state)?;
        let unknown = std::mem::take(&mut self.unknown);
        // In order, neighbours are looked at together; most of them are from the last time.
        self.objects.sort_by_key(|object| object.key.address);
        self.done = None;
        let due: Vec<usize> = (0..self.objects.len()).filter(|n| self.objects[*n].is_due(now)).collect();
        if due.is_empty() && unknown.is_empty() {
            return Ok(None);
        }
        let addresses: Vec<ProcAddr> = due.iter().map(|n| self.objects[*n].key.address).collect();
        let looks = look(memory, state, shape, now, &addresses);
        let looks = match looks {
            Ok(looks) if generation(memory, state)? == now => looks,
            Ok(_) => {
                self.unknown = unknown;
                return Ok(None);
            }
            Err(e) => {
                self.unknown = unknown;
                return Err(e);
            }
        };
        let mut fates = Fates { cycle: now / PER_CYCLE, unknown, ..Fates::default() };
        let mut gone = vec![false; self.objects.len()];
        for (n, look) in due.into_iter().zip(looks) {
            let object = &mut self.objects[n];
            match object.judge(look, now) {
                Fate::Untold => fates.untold += 1,
                Fate::Same => {}
                Fate::Survived => fates.survived.push(object.key),
                Fate::Unknown => fates.unknown.push(object.key),
                Fate::Died => {
                    gone[n] = true;
                    fates.died.push(object.key);
                }
            }
        }
        let mut gone = gone.into_iter();
        self.objects.retain(|_| !gone.next().unwrap_or(false));
        self.done = (fates.untold == 0).then_some((now, self.objects.len()));
        Ok(Some(fates))
    }

    /// Whether something can be told of an object as of a generation.
    pub fn has_due(&self, generation: u32) -> bool {
        let done = self.done.filter(|(as_of, _)| *as_of == generation).map_or(0, |(_, objects)| objects);
        !self.unknown.is_empty() || self.objects[done..].iter().any(|object| object.is_due(generation))
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.unknown.is_empty()
    }
}

/// News of one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Untold,
    /// As it was said before.
    Same,
    Survived,
    Unknown,
    Died,
}

impl Object {
    /// Whether this generation's marks tell something new of it.
    fn is_due(&self, now: u32) -> bool {
        self.knowledge == Knowledge::Lost && self.told != now
            || now.wrapping_sub(self.told).cast_signed() >= PER_CYCLE.cast_signed()
    }

    fn judge(&mut self, look: Look, now: u32) -> Fate {
        let missed = now.wrapping_sub(self.told) != PER_CYCLE;
        let found = match look {
            Look::Untold => return Fate::Untold,
            // What was allocated is an object.
            Look::Free | Look::Elsewhere(_) => return Fate::Died,
            Look::Marked(found) => found,
        };
        let before = self.knowledge;
        self.told = now;
        match before {
            // The memory was given back and set up anew.
            Knowledge::Lives(known) if known != found => Fate::Died,
            Knowledge::None | Knowledge::Lives(_) if missed => {
                self.knowledge = Knowledge::Lost;
                Fate::Unknown
            }
            Knowledge::None => {
                self.knowledge = Knowledge::Lives(found);
                Fate::Survived
            }
            Knowledge::Lives(_) | Knowledge::Lost => Fate::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, KTime};

    const HERE: Identity = Identity { start: ProcAddr(8192), slot: Bytes(64), spanclass: 10 };
    const ELSEWHERE: Identity = Identity { start: ProcAddr(8192), slot: Bytes(80), spanclass: 12 };

    fn born(generation: u32, marking: bool) -> Object {
        let mut follower = Follower::default();
        let key = SampleKey { address: ProcAddr(8192), at: KTime(1) };
        follower.follow(key, Some(Born { generation, marking }));
        follower.objects[0]
    }

    #[test]
    fn each_cycle_tells_and_a_clear_bit_is_death() {
        let mut object = born(6, false);
        assert!(!object.is_due(6));
        assert!(object.is_due(8));
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert!(!object.is_due(8));
        assert_eq!(object.judge(Look::Marked(HERE), 10), Fate::Same);
        assert_eq!(object.judge(Look::Untold, 12), Fate::Untold);
        assert_eq!(object.judge(Look::Free, 12), Fate::Died);
    }

    #[test]
    fn the_cycle_that_marks_tells_nothing_of_what_is_allocated_meanwhile() {
        let mut object = born(6, true);
        assert!(!object.is_due(8));
        assert!(object.is_due(10));
        assert_eq!(object.judge(Look::Marked(HERE), 10), Fate::Survived);
    }

    #[test]
    fn a_missed_cycle_is_unknown_until_the_place_is_free() {
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 10), Fate::Unknown);
        assert_eq!(object.judge(Look::Marked(HERE), 12), Fate::Same);
        assert_eq!(object.judge(Look::Marked(ELSEWHERE), 14), Fate::Same);
        assert_eq!(object.judge(Look::Free, 16), Fate::Died);
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert_eq!(object.judge(Look::Marked(HERE), 12), Fate::Unknown);
    }

    #[test]
    fn another_span_is_death() {
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert_eq!(object.judge(Look::Marked(ELSEWHERE), 10), Fate::Died);
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert_eq!(object.judge(Look::Marked(ELSEWHERE), 12), Fate::Died, "whatever was missed");
    }

    #[test]
    fn the_generation_wraps() {
        let mut object = born(u32::MAX - 1, false);
        assert!(object.is_due(0) && !object.is_due(u32::MAX - 3));
        assert_eq!(object.judge(Look::Marked(HERE), 0), Fate::Survived);
    }

    #[test]
    fn what_is_known_of_no_cycle_is_lost() {
        let mut follower = Follower::default();
        follower.follow(SampleKey { address: ProcAddr(1), at: KTime(1) }, None);
        assert!(follower.objects[0].is_due(400));
        assert_eq!(follower.objects[0].judge(Look::Marked(HERE), 400), Fate::Same);
        assert_eq!(follower.objects[0].judge(Look::Free, 402), Fate::Died);
    }
}
