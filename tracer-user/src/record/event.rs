//! What the kernel side sends through the ring buffer, decoded. Never holds kernel or Go structures.

use serde::{Deserialize, Serialize};

use super::samples::Sample;
use crate::units::{ProcAddr, StackId};

/// An event from the kernel side. Recordings know the variants by their place: a new one goes to the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A user stack seen for the first time; later counts name it by id only.
    /// Frames are return addresses, innermost first, without the probed function itself.
    Stack { id: StackId, frames: Vec<ProcAddr>, truncated: bool },
    /// One of the sampled allocations.
    Sample(Sample),
}
