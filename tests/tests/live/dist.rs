//! The one static file of `cargo xtask dist`, run where there is nothing else: a root with /proc, /sys and itself, as a container of
//! a pod that shares the host's pids has it.
//!
//! The truth is the target's own count. The root is made in a mount namespace that goes with the session.

use std::process::Command;
use std::time::Duration;

use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::{hits, wait_restored};
use tracer_tests::live;
use tracer_tests::report::number;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::{ATTACHED, Tracer};

const END: Duration = Duration::from_mins(1);

/// tracer as the only file of a root of its own.
fn in_an_empty_root(scratch: &Scratch, arguments: &str) -> Command {
    let built = xtask::dist::build().unwrap_or_else(|error| panic!("{error:#}"));
    let script = format!(
        "mount -t tmpfs none {root} && cp {built} {root}/tracer && mkdir {root}/proc {root}/sys && \
         mount --bind /proc {root}/proc && mount --bind /sys {root}/sys && cd {root} && \
         exec chroot {root} /tracer {arguments}",
        root = scratch.path().display(),
        built = built.display(),
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    command
}

#[test]
fn the_static_file_traces_from_an_empty_root() {
    live!(Root, Uprobes, Go, Packages);
    let scratch = Scratch::new("dist");
    let version = Tracer::start_command(&mut in_an_empty_root(&scratch, "--version")).wait(END).success();
    assert_eq!(version.stdout.trim(), concat!("tracer ", env!("CARGO_PKG_VERSION")));

    let mut target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid();
    let session = format!("--pid {pid} --sampler all --format json");
    let mut tracer = Tracer::start_command(&mut in_an_empty_root(&scratch, &session));
    tracer.wait_for(ATTACHED, END);
    assert_eq!(scratch.entries(), 0, "its root is nobody else's");
    let answer = target.ask("run 50");
    let report = tracer.interrupt().success().json();
    assert_eq!(number(&report, "/target/pid"), u64::from(pid));
    let sites = answer["sites"].as_array().unwrap();
    let calls: u64 = sites.iter().map(|site| site["calls"].as_u64().unwrap()).sum();
    let counted = hits(&report, "runtime.mallocgc");
    assert!(counted >= calls, "{counted} hits, {calls} allocations by the target's own count");
    wait_restored(pid, "after the session");
    target.ask("run 5");
}
