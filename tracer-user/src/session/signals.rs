//! The signals thread: Ctrl-C, SIGTERM, SIGUSR1 and the target's end, turned into wake-ups.

use std::{
    os::fd::OwnedFd,
    sync::mpsc::{SyncSender, TrySendError},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
};

use super::inbox::{Signal, Wake};

/// Starts the thread. `pidfd` becomes readable when the target ends.
pub(super) fn start(pidfd: Option<OwnedFd>, inbox: SyncSender<Wake>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // The handlers are in place when this returns: a Ctrl-C right after is not the default one.
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut report = signal(SignalKind::user_defined1())?;
    drop(guard);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let ended = async move {
                match pidfd.and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE).ok()) {
                    Some(fd) => drop(fd.readable().await),
                    // Without a pidfd the reader notices when /proc no longer shows the process.
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(ended);
            let mut alive = true;
            loop {
                let wake = tokio::select! {
                    _ = interrupt.recv() => Wake::Signal(Signal::Interrupt),
                    _ = terminate.recv() => Wake::Signal(Signal::Terminate),
                    _ = report.recv() => Wake::Signal(Signal::Report),
                    () = &mut ended, if alive => {
                        alive = false;
                        Wake::TargetGone
                    }
                };
                // A full inbox drains within a tick; the loop itself never waits for this thread.
                match inbox.try_send(wake) {
                    Ok(()) => {}
                    Err(TrySendError::Full(wake)) => {
                        if inbox.send(wake).is_err() {
                            return;
                        }
                    }
                    Err(TrySendError::Disconnected(_)) => return,
                }
            }
        });
    })?;
    Ok(())
}
