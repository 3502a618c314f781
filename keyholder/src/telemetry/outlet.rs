//! Where finished lines go: one writer, and whoever keeps the last ones in memory.
//!
//! Never sees anything but finished lines.

use std::{
    collections::VecDeque,
    io::{Write, stderr},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Writer;

pub(super) struct Outlets {
    writer: Mutex<Writer>,
    captures: Mutex<Vec<Weak<Ring>>>,
}

struct Ring {
    limit: usize,
    lines: Mutex<VecDeque<Arc<str>>>,
    lost: AtomicU64,
}

/// The last lines of the log, in memory.
pub struct Capture(Arc<Ring>);

impl Capture {
    /// The lines kept so far, the oldest first, without their line feed.
    pub fn lines(&self) -> Vec<Arc<str>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many lines are not kept any more. Whoever wants to say that *no* line has something in it needs a zero here.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Outlets {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer: Mutex::new(writer), captures: Mutex::default() }
    }

    pub(super) fn capture(&self, limit: usize) -> Capture {
        let ring = Arc::new(Ring { limit, lines: Mutex::default(), lost: AtomicU64::new(0) });
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.retain(|ring| ring.strong_count() > 0);
        captures.push(Arc::downgrade(&ring));
        Capture(ring)
    }

    /// Writes one line, which ends with a line feed and has no other. A log that cannot be written stops nobody.
    pub(super) fn write(&self, line: &str) {
        let captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        if !captures.is_empty() {
            let kept: Arc<str> = line.trim_end_matches('\n').into();
            captures.iter().filter_map(Weak::upgrade).for_each(|ring| ring.keep(Arc::clone(&kept)));
        }
        drop(captures);
        let _ = match &mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            Writer::Silent => Ok(()),
            Writer::Stderr => stderr().lock().write_all(line.as_bytes()),
            Writer::Sink(sink) => sink.write_all(line.as_bytes()),
        };
    }
}

impl Ring {
    fn keep(&self, line: Arc<str>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        while lines.len() > self.limit {
            lines.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
