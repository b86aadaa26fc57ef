//! The heap census of one target: what is read once per image, and the reading itself.

use super::target::Target;
use crate::{
    goruntime::{
        heap::{
            census::{self, HeapShape, Limits},
            typing::Types,
        },
        names::type_table::TypeTable,
        state::StateError,
    },
    record::Census,
};

/// What is known of the image after the first census.
#[derive(Default)]
pub(super) struct HeapReader {
    image: Option<Image>,
}

struct Image {
    shape: HeapShape,
    /// Absent where the image's types cannot be read: then objects have none.
    types: Option<Types>,
}

impl HeapReader {
    pub(super) fn read(&mut self, target: &Target) -> Result<Census, StateError> {
        let image = self.image.get_or_insert_with(|| {
            let types = TypeTable::read(&target.image).ok().map(|table| Types {
                table,
                bias: target.bias,
                text: target.image.module().text,
            });
            Image { shape: HeapShape::of(&target.image), types }
        });
        census::read(&target.memory, &target.state, image.shape, image.types.as_ref(), Limits::default())
    }
}
