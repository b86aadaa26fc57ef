//! The heap census of one target: what is read once per image, and the reading itself.

use super::{plugins, target::Target};
use crate::goruntime::{
    heap::{
        census::{self, Also, HeapShape, Limits, Read},
        map_headers::Look,
        typing::Types,
    },
    names::type_table::TypeTable,
    state::{StateError, maps::MapKind, profile::ProfileVars},
};
use crate::units::ProcAddr;

/// What is known of the image after the first census.
#[derive(Default)]
pub(super) struct HeapReader {
    image: Option<Image>,
    /// How many plugins its types are of.
    plugins: usize,
    /// Where the next look for maps begins.
    maps_from: ProcAddr,
}

struct Image {
    shape: HeapShape,
    /// Absent where the image's types cannot be read: then objects have none.
    types: Option<Types>,
}

impl HeapReader {
    /// One census; large maps of that kind, and what the runtime's profiler has sampled, where asked for.
    pub(super) fn read(
        &mut self,
        target: &Target,
        maps: Option<MapKind>,
        profile: Option<&ProfileVars>,
    ) -> Result<Read, StateError> {
        let plugins = target.plugins.all();
        if self.plugins != plugins.len() {
            *self = Self { image: None, plugins: plugins.len(), ..*self };
        }
        let image = self.image.get_or_insert_with(|| {
            let table = TypeTable::with_modules(&target.image, &plugins, target.bias).ok();
            let texts = plugins::texts(target, &plugins);
            let types = table.map(|table| Types { table, bias: target.bias, texts });
            Image { shape: HeapShape::of(&target.image), types }
        });
        let types = image.types.as_ref();
        let maps = maps.map(|kind| Look { kind, from: self.maps_from });
        let also = Also { maps, profile };
        let read =
            census::read_all(&target.memory, &target.state, image.shape, types, also, Limits::default())?;
        if let Some(found) = &read.maps {
            self.maps_from = found.next;
        }
        Ok(read)
    }
}
