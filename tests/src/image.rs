//! A built program's names, as tracer reads them from its file.

use std::fs::File;
use std::path::Path;

use tracer_user::binary::file::FileBytes;
use tracer_user::goruntime::{GoError, GoImage};

/// Opens what was built; an error is what tracer says of it.
pub fn open(program: &Path) -> Result<GoImage, GoError> {
    let file = FileBytes::new(File::open(program).expect("the built program opens"));
    let len = file.len().expect("has a length");
    GoImage::open(Box::new(file), len)
}

/// The same of a program that tracer can read.
pub fn image(program: &Path) -> GoImage {
    open(program).expect("a Go image")
}
