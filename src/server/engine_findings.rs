//! What was found when the engine of the cluster was looked at last.

use parking_lot::Mutex;

use crate::store::Inspection;

/// What was found last.
#[derive(Default)]
pub struct EngineFindings(Mutex<Inspection>);

impl EngineFindings {
    /// What was found last; nothing before the first look.
    pub fn get(&self) -> Inspection {
        self.0.lock().clone()
    }

    /// Notes what was found, and returns what it was before.
    pub fn replace(&self, found: Inspection) -> Inspection {
        std::mem::replace(&mut self.0.lock(), found)
    }
}
