//! Tasks by id: the one row that a child exchange reads. Rows are immutable, so a cached one is never stale.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::TaskId;
use crate::domain::record::TaskRecord;
use crate::recent::{Recent, bytes_of};
use crate::store::Store;
use crate::store::error::StoreError;

/// Most tasks in memory.
const ENTRIES: usize = 32_768;
/// Most bytes that they take; one with more than half a MiB of facts is read each time.
const BYTES: usize = 32 << 20;

/// A bounded cache of the tasks used lately.
pub(super) struct TaskCache(Mutex<Recent<TaskId, Arc<TaskRecord>>>);

impl Default for TaskCache {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(ENTRIES, BYTES)))
    }
}

impl TaskCache {
    /// The task's record, from memory or the store; `None` when there is none.
    pub(super) async fn get(&self, store: &Store, id: TaskId) -> Result<Option<Arc<TaskRecord>>, StoreError> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id);
        if cached.is_some() {
            return Ok(cached);
        }
        let task = store.task(id).await?.map(Arc::new);
        if let Some(task) = &task {
            let texts = [&task.principal.iss, &task.principal.sub, &task.session.iss];
            let bytes = size_of::<TaskRecord>() + texts.map(String::len).iter().sum::<usize>();
            let bytes = bytes + bytes_of(&task.facts);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).put(id, task.clone(), bytes);
        }
        Ok(task)
    }
}
