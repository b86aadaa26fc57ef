//! Lines of a child's output, taken as they come and kept, with a time limit for every wait.
//! It never blocks for ever: a test that waits in vain says what it saw instead.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A pipe that is read by a thread of its own until it closes.
#[derive(Debug)]
pub(crate) struct Lines {
    coming: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    pub(crate) fn read(pipe: impl Read + Send + 'static) -> Self {
        let (sender, coming) = channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            // An error of the pipe is its end: the child is gone, which its exit status tells better.
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { coming, seen: Vec::new() }
    }

    /// The next line that satisfies `wanted`, without its line break. Earlier ones are kept in `text`.
    pub(crate) fn wait(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let why = match self.coming.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    let line = line.trim_end();
                    if wanted(line) {
                        return Ok(line.to_owned());
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => format!("no such line within {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => "the output ended".to_owned(),
            };
            return Err(format!("{why}; seen:\n{}", self.seen.concat()));
        }
    }

    /// Everything until the pipe closes, or what came until the limit.
    pub(crate) fn rest(&mut self, limit: Duration) -> String {
        // The error says how it ended; both ends are expected here.
        drop(self.wait(limit, |_| false));
        self.text()
    }

    /// Everything seen so far.
    pub(crate) fn text(&self) -> String {
        self.seen.concat()
    }
}
