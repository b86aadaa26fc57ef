//! The program we started, after its release: it is waited for, and what is sent to us is passed on to it.
//!
//! Apart from the loop because the program outlives it, also where the session failed.

use std::{
    process::ExitStatus,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::inbox::{Signal, Wake};
use crate::host::launch::Running;

/// A program that runs, and where its signals arrive.
pub struct Program {
    child: Running,
    /// Locked by nobody: an error that carries the program must be `Sync`.
    inbox: Mutex<Receiver<Wake>>,
}

const TICK: Duration = Duration::from_millis(50);

impl Program {
    /// Signals already arrive in `inbox`.
    pub(super) fn new(child: Running, inbox: Receiver<Wake>) -> Self {
        Self { child, inbox: Mutex::new(inbox) }
    }

    /// Waits for its end, passing on what is sent to us.
    pub fn wait(self) -> Option<ExitStatus> {
        let Self { mut child, inbox } = self;
        let inbox = inbox.into_inner().unwrap_or_else(PoisonError::into_inner);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {}
                Err(_) => return None,
            }
            match inbox.recv_timeout(TICK) {
                Ok(Wake::Signal(Signal::Interrupt)) => child.interrupt(),
                Ok(Wake::Signal(Signal::Terminate)) => child.signal(rustix::process::Signal::TERM),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                // The signals thread is gone: nothing is left to pass on.
                Err(RecvTimeoutError::Disconnected) => return child.wait().ok(),
            }
        }
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.child.fmt(f)
    }
}
