//! What the kernel side sends through the ring buffer, decoded. Never holds kernel or Go structures.

use crate::units::{ProcAddr, StackId};

/// An event from the kernel side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A user stack seen for the first time; later counts name it by id only.
    /// Frames are return addresses, innermost first, without the probed function itself.
    Stack { id: StackId, frames: Vec<ProcAddr>, truncated: bool },
}
