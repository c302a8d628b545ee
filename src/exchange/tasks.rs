//! Tasks by id: the one row that a child exchange reads. Rows are immutable, so a cached one is never stale. And how far
//! their trees had grown when this process last issued one of their tokens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::ids::{Jti, TaskId};
use crate::domain::record::TaskRecord;
use crate::recent::{Recent, bytes_of};
use crate::store::Store;
use crate::store::change::Place;
use crate::store::error::StoreError;

/// Most tasks in memory.
const ENTRIES: usize = 32_768;
/// Most bytes that they take; one with more than half a MiB of facts is read each time.
const BYTES: usize = 32 << 20;

/// Bytes of a count, roughly.
const COUNT: usize = 64;

/// A bounded cache of the tasks used lately.
pub(super) struct TaskCache {
    tasks: Mutex<Recent<TaskId, Arc<TaskRecord>>>,
    tokens: Mutex<Recent<TaskId, u64>>,
    children: Mutex<Recent<Jti, u64>>,
}

impl Default for TaskCache {
    fn default() -> Self {
        Self {
            tasks: Mutex::new(Recent::new(ENTRIES, BYTES)),
            tokens: Mutex::new(Recent::new(ENTRIES, ENTRIES * COUNT)),
            children: Mutex::new(Recent::new(ENTRIES, ENTRIES * COUNT)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TaskCache {
    /// The task's record, from memory or the store; `None` when there is none.
    pub(super) async fn get(&self, store: &Store, id: TaskId) -> Result<Option<Arc<TaskRecord>>, StoreError> {
        let cached = lock(&self.tasks).get(&id);
        if cached.is_some() {
            return Ok(cached);
        }
        let task = store.task(id).await?.map(Arc::new);
        if let Some(task) = &task {
            let texts = [&task.principal.iss, &task.principal.sub, &task.session.iss];
            let bytes = size_of::<TaskRecord>() + texts.map(String::len).iter().sum::<usize>();
            let bytes = bytes + bytes_of(&task.facts);
            lock(&self.tasks).put(id, task.clone(), bytes);
        }
        Ok(task)
    }

    /// Remembers how far the tree of `task` has grown with a token at this place below `parent`.
    pub(super) fn grew(&self, task: TaskId, parent: Option<Jti>, place: Option<Place>) {
        let Some(place) = place else { return };
        lock(&self.tokens).put(task, place.task_serial, COUNT);
        if let Some(parent) = parent {
            lock(&self.children).put(parent, place.sibling, COUNT);
        }
    }

    /// What policy is told of the tree below `parent`, a token of `task`: as of what this process issued last in it, so that
    /// it may lag behind. All 0 for a root.
    pub(super) fn stats(&self, tree: Option<(TaskId, Jti)>) -> BTreeMap<String, u64> {
        let tokens = tree.and_then(|(task, _)| lock(&self.tokens).get(&task));
        let children = tree.and_then(|(_, parent)| lock(&self.children).get(&parent));
        let told = [("task_tokens", tokens), ("token_children", children)];
        told.into_iter().map(|(name, count)| (name.to_owned(), count.unwrap_or_default())).collect()
    }
}
