//! The heap census of one target: what is read once per image, and the reading itself.

use super::target::Target;
use crate::{
    goruntime::{
        heap::census::{self, HeapShape, Limits},
        state::StateError,
    },
    record::Census,
};

/// What is known of the image after the first census.
#[derive(Default)]
pub(super) struct HeapReader {
    shape: Option<HeapShape>,
}

impl HeapReader {
    pub(super) fn read(&mut self, target: &Target) -> Result<Census, StateError> {
        let shape = *self.shape.get_or_insert_with(|| HeapShape::of(&target.image));
        census::read(&target.memory, &target.state, shape, Limits::default())
    }
}
