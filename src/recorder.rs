//! Where observations go: into the record on disk first, then to whoever listens.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use crate::clock;
use crate::evidence::record::{Emitter, encode};
use crate::evidence::{Fact, Moment, Observation, Source};

/// Takes observations from any thread. Clones share one record.
///
/// Each observation is written with one `write(2)` before anybody hears of it, so that whatever was acted upon can be
/// reported even after a `kill -9`.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

/// Hears each observation in its order; answers whether it wants to hear more.
type Listener = Box<dyn FnMut(Observation) -> bool + Send>;

struct Shared {
    /// None where somebody else keeps the record and this only relays.
    file: Option<File>,
    emitter: Emitter,
    sequence: u64,
    listener: Option<Listener>,
    failed: Option<io::Error>,
}

impl Recorder {
    /// Begins a record in a new file; a file that exists is an error, never overwritten.
    pub fn create(path: &Path, boot_id: &str, listener: UnboundedSender<Observation>) -> io::Result<Self> {
        let file = File::options().append(true).create_new(true).open(path)?;
        let emitter = Emitter { epoch: format!("{}", clock::unix_ns()), boot_id: boot_id.to_owned() };
        let listener: Listener = Box::new(move |observation| listener.send(observation).is_ok());
        let shared =
            Shared { file: Some(file), emitter, sequence: 0, listener: Some(listener), failed: None };
        Ok(Self { shared: Arc::new(Mutex::new(shared)) })
    }

    /// Keeps nothing: whoever listens does. It is called with the record's lock held and must not wait.
    pub fn relay(listener: impl FnMut(Observation) -> bool + Send + 'static) -> Self {
        let emitter = Emitter { epoch: String::new(), boot_id: String::new() };
        let listener: Listener = Box::new(listener);
        let shared = Shared { file: None, emitter, sequence: 0, listener: Some(listener), failed: None };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Records a fact that happened at `moment`.
    pub fn record(&self, source: Source, moment: Moment, raw: Option<String>, fact: Fact) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let observation = Observation { sequence: shared.sequence, source, moment, raw, fact };
        shared.sequence += 1;
        if let Err(error) = shared.write(&observation) {
            shared.failed.get_or_insert(error);
        }
        // A listener that has gone away has heard enough; the record goes on.
        if shared.listener.as_mut().is_some_and(|listener| !listener(observation)) {
            shared.listener = None;
        }
    }

    /// Records a fact that happens now.
    pub fn now(&self, source: Source, fact: Fact) {
        self.record(source, Moment::exactly(clock::boot_ns()), None, fact);
    }

    /// The first error in writing the record, once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).failed.take()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("file", &self.file)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn write(&mut self, observation: &Observation) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = encode(observation, &self.emitter)?;
        line.push('\n');
        file.write_all(line.as_bytes())
    }
}
