//! The signals thread and its twin: Ctrl-C, SIGTERM, SIGUSR1 and the target's end, turned into wake-ups.
//!
//! Signals are listened to before a program is started, so that none ends us and leaves it behind.

use std::{os::fd::OwnedFd, sync::mpsc::SyncSender};

use rustix::event::{PollFd, PollFlags};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    inbox::{Signal, Wake},
    privileges,
};

/// From here on signals arrive in `inbox`.
pub(super) fn start(inbox: SyncSender<Wake>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // The handlers are in place when this returns: a Ctrl-C right after is not the default one.
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut report = signal(SignalKind::user_defined1())?;
    drop(guard);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        privileges::to_wait();
        runtime.block_on(async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::Interrupt,
                    _ = terminate.recv() => Signal::Terminate,
                    _ = report.recv() => Signal::Report,
                };
                // A full inbox empties within a tick: the loop never waits for this thread.
                if inbox.send(Wake::Signal(signal)).is_err() {
                    return;
                }
            }
        });
    })?;
    Ok(())
}

/// From here on the target's end arrives in `inbox`: `pidfd` becomes readable then.
pub(super) fn watch_end(pidfd: OwnedFd, inbox: SyncSender<Wake>) -> std::io::Result<()> {
    std::thread::Builder::new().name("pidfd".into()).spawn(move || watch(&pidfd, &inbox)).map(drop)
}

/// Waits for the target's end. Where the wait itself fails, the reader notices the end in /proc.
fn watch(pidfd: &OwnedFd, inbox: &SyncSender<Wake>) {
    loop {
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
            Ok(_) => break,
        }
    }
    // A loop that is gone wants no news.
    drop(inbox.send(Wake::TargetGone));
}
