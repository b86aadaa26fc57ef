//! `tracer list`: the Go processes of this host, what they are and what can be traced.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use crate::{
    binary::file::FileBytes,
    goruntime::{GoImage, error::GoError},
    host::{discovery, process::Process},
    kernel::capability::Capabilities,
    report::printable,
    units::Pid,
};

pub(super) fn list() -> anyhow::Result<ExitCode> {
    let capabilities = Capabilities::read();
    let listing = discovery::list()?;
    let mut text = format!(
        "{:>7}  {:<12} {:<20} {:>9} {:>9} {:>7}  {:<20} {}\n",
        "PID", "GO", "BUILD", "RSS", "LIMIT", "AGE", "NAME", "TRACE"
    );
    let mut rows = 0;
    for found in &listing.processes {
        // A process that ends or is no Go program is simply not in this list.
        let Some(row) = row(found.pid, &found.comm, &capabilities) else {
            continue;
        };
        rows += 1;
        text.push_str(&row);
        text.push('\n');
    }
    if rows == 0 {
        "no Go process\n".clone_into(&mut text);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    if !listing.refused.is_empty() {
        super::say(&format!(
            "{} {} could not be looked at, the first because: {}",
            listing.refused.len(),
            if listing.refused.len() == 1 { "process" } else { "processes" },
            listing.refused[0].1
        ));
    }
    if listing.cut > 0 {
        super::say(&format!("{} more processes were not looked at", listing.cut));
    }
    Ok(ExitCode::SUCCESS)
}

/// One line. `None`: not Go, gone, or not to be opened (counted by the listing).
fn row(pid: Pid, comm: &str, capabilities: &Capabilities) -> Option<String> {
    let process = Process::open(pid).ok()?;
    let file = process.exe().try_clone().ok()?;
    let len = file.metadata().ok()?.len();
    let figures = process.figures().ok()?;
    let (version, build, trace) = match GoImage::open(Box::new(FileBytes::new(file)), len) {
        Ok(image) => (image.build_info().version_text.clone(), build(&image), trace(capabilities)),
        Err(GoError::Unsupported { found, range } | GoError::Newer { found, range, .. }) => {
            (found, String::new(), format!("no: supported are {range}"))
        }
        Err(GoError::Broken { what, at }) => {
            ("?".to_owned(), String::new(), format!("no: {what} at {at:#x}"))
        }
        Err(_) => return None,
    };
    let limit = process.memory_limit().map_or_else(|| "-".to_owned(), |limit| bytes(limit.limit.0));
    let mut line = String::new();
    write!(
        line,
        "{:>7}  {:<12} {:<20} {:>9} {:>9} {:>7}  {:<20} {}",
        pid.0,
        printable(&version),
        build,
        bytes(figures.rss.0),
        limit,
        age(process.age().as_secs()),
        printable(comm),
        trace
    )
    .ok()?;
    Some(line.trim_end().to_owned())
}

fn build(image: &GoImage) -> String {
    let mut words = Vec::new();
    if image.is_stripped() {
        words.push("stripped");
    }
    if image.is_pie() {
        words.push("pie");
    }
    if image.is_cgo() {
        words.push("cgo");
    }
    if image.is_race() {
        words.push("race");
    }
    if words.is_empty() { "ordinary".to_owned() } else { words.join(" ") }
}

fn trace(capabilities: &Capabilities) -> String {
    match (capabilities.bpf, capabilities.perfmon) {
        (true, true) => "readings and probes".to_owned(),
        (false, _) => "readings; probes need CAP_BPF".to_owned(),
        (true, false) => "readings; probes need CAP_PERFMON".to_owned(),
    }
}

pub(super) fn bytes(n: u64) -> String {
    crate::analyze::figures::bytes(n)
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
