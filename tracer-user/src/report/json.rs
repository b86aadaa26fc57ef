//! The report as JSON, schema `tracer.report/1`. Control characters are escaped by JSON itself.

use std::io::{self, Write};

use super::{Exporter, Report};

/// One JSON document, indented, with a final newline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Exporter for Json {
    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
        out.write_all(b"\n")
    }
}
