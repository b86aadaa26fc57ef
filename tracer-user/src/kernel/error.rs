//! What the kernel refuses, with what to do about it.

use crate::units::FileOffset;

/// Why the kernel side could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel lacks something.
    #[error("kernel {kernel} has no {feature}; use --sampler none, which reads memory only")]
    Missing { feature: &'static str, kernel: String },
    /// A capability is missing.
    #[error(
        "the kernel refused to {what}: {capability} is missing; grant it, run as root, or use --sampler none"
    )]
    Denied { what: &'static str, capability: &'static str },
    /// The object did not load.
    #[error("the eBPF object did not load: {0}")]
    Load(String),
    /// A probe could not be attached.
    #[error("cannot attach a probe at file offset {offset}: {source}")]
    Attach { offset: FileOffset, source: std::io::Error },
    /// One link for all probes could not be made.
    #[error("cannot attach {sites} probes in one link: {source}")]
    AttachMulti { sites: usize, source: std::io::Error },
    /// What a probe costs on this host could not be measured.
    #[error("what a probe costs here is not known: {0}")]
    Calibration(String),
    /// A map operation failed.
    #[error("cannot use the eBPF map {map}: {why}")]
    Map { map: &'static str, why: String },
}

/// The whole chain of an error in one line, for errors that hide the reason in their source.
pub(super) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    let line: Vec<&str> = text.split_whitespace().collect();
    let mut line = line.join(" ");
    // A verifier log can be megabytes; its end says what was wrong.
    if line.len() > 600 {
        let cut = line.len() - 300;
        let cut = (cut..line.len()).find(|i| line.is_char_boundary(*i)).unwrap_or(line.len());
        let head: String = line.chars().take(200).collect();
        line = format!("{head} ... {}", &line[cut..]);
    }
    line
}
