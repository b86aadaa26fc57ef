//! The operator's thread: looks whether this session is asked to let go, and sees to it that it does.
//!
//! Apart from the loop because it is for a loop that hangs: one that does not end within [`GRACE`] is ended with the process, and
//! the kernel takes the probes away.

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
    time::Duration,
};

use super::{
    inbox::{Signal, Wake},
    privileges,
};
use crate::host::registry::Registration;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// From being asked to being ended: single links alone take some seconds to let go.
const GRACE: Duration = Duration::from_secs(15);
/// The exit status of a session that did not end by itself.
const HUNG: i32 = 2;

/// Watches for as long as the session is entered.
pub(super) fn start(
    registration: &Arc<Registration>,
    notice: Arc<dyn Fn(&str) + Send + Sync>,
    inbox: SyncSender<Wake>,
) -> std::io::Result<()> {
    let registration = Arc::downgrade(registration);
    let watch = move || {
        if let Some(registration) = registration.upgrade() {
            privileges::to_be_asked(&registration);
        }
        let by = loop {
            // The session is over.
            let Some(registration) = registration.upgrade() else { return };
            if let Some(by) = registration.asked_by() {
                break by;
            }
            drop(registration);
            std::thread::sleep(LOOK);
        };
        notice(&format!("{} asks all tracers to let go", by.display()));
        // An inbox that stays full is the loop's fault, and ends with it.
        let mut wake = Wake::Signal(Signal::LetGo);
        for _ in 0..GRACE.as_millis() / LOOK.as_millis() {
            wake = match inbox.try_send(wake) {
                Ok(()) => Wake::Signal(Signal::LetGo),
                Err(TrySendError::Full(wake)) => wake,
                Err(TrySendError::Disconnected(_)) => return,
            };
            std::thread::sleep(LOOK);
            if registration.strong_count() == 0 {
                return;
            }
        }
        notice("the session does not end: the process ends without its report");
        std::process::exit(HUNG);
    };
    std::thread::Builder::new().name("operator".into()).spawn(watch).map(drop)
}
