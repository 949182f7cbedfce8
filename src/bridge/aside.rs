//! What comes beside heads, bodies and messages: flags of how far it is, and what waits until it is
//! asked for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::convert::event_fields;
use super::memory::Call;
use super::port::Port;
use crate::engine::error::Error;
use crate::engine::mailbox::{Contents, End};
use crate::engine::report::Note;

/// The response, or the session, is complete.
pub(super) const COMPLETE: u8 = 1;
/// The exchange takes a while.
const SLOW: u8 = 2;
/// The client's side gave up.
const ABORTED: u8 = 4;
/// There are notes to be fetched.
const NOTES: u8 = 8;
/// The response broke off, and there is a failure to be fetched.
pub(super) const FAILED: u8 = 16;
/// The response is the relay's own, as none came from upstream.
pub(super) const OWN: u8 = 32;

/// What has come and has not been asked for.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    notes: Vec<Note>,
    failure: Option<Error>,
}

impl Aside {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what `contents` have beside the rest; the flags that tell of it.
    pub(super) fn keep<Head, I>(&self, contents: &mut Contents<Head, Note, I>) -> u8 {
        let mut flags = if contents.aborted { ABORTED } else { 0 };
        match contents.end.take() {
            Some(End::Complete) => flags |= COMPLETE,
            Some(End::Failed(error)) => {
                flags |= FAILED;
                self.lock().failure = Some(error);
            }
            None => {}
        }
        for note in contents.notes.drain(..) {
            if matches!(note, Note::Slow) {
                flags |= SLOW;
            } else {
                flags |= NOTES;
                self.lock().notes.push(note);
            }
        }
        flags
    }

    pub(super) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock().notes)
    }

    pub(super) fn take_failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }
}

/// Notes for Python: `(event name, fields)` for the log, or a `Call`.
pub(super) fn note_list<'py>(
    py: Python<'py>,
    notes: Vec<Note>,
    port: &Py<Port>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for note in notes {
        match note {
            Note::Event(event) => list.append(event_fields(py, event)?)?,
            Note::Call(call) => list.append(Call::new(call, port.clone_ref(py)))?,
            Note::Slow => {}
        }
    }
    Ok(list)
}
