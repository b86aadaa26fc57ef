//! The heap census of one target: what is read once per image, and the reading itself.

use super::{plugins, target::Target};
use crate::{
    goruntime::{
        heap::{
            census::{self, HeapShape, Limits},
            typing::Types,
        },
        names::type_table::TypeTable,
        state::{
            StateError,
            maps::{Known, MapKind},
        },
    },
    record::Census,
};

/// What is known of the image after the first census.
#[derive(Default)]
pub(super) struct HeapReader {
    image: Option<Image>,
    /// How many plugins its types are of.
    plugins: usize,
}

struct Image {
    shape: HeapShape,
    /// Absent where the image's types cannot be read: then objects have none.
    types: Option<Types>,
}

impl HeapReader {
    /// One census, and the large maps of a kind that it came by.
    pub(super) fn read(
        &mut self,
        target: &Target,
        maps: Option<MapKind>,
    ) -> Result<(Census, Vec<Known>), StateError> {
        let plugins = target.plugins.all();
        if self.plugins != plugins.len() {
            *self = Self { image: None, plugins: plugins.len() };
        }
        let image = self.image.get_or_insert_with(|| {
            let table = TypeTable::with_modules(&target.image, &plugins, target.bias).ok();
            let texts = plugins::texts(target, &plugins);
            let types = table.map(|table| Types { table, bias: target.bias, texts });
            Image { shape: HeapShape::of(&target.image), types }
        });
        let types = image.types.as_ref();
        census::read_and_maps(&target.memory, &target.state, image.shape, types, maps, Limits::default())
    }
}
