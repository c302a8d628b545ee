//! Tasks by id: the one row that a child exchange reads. Rows are immutable, so a cached one is never stale.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::TaskId;
use crate::domain::record::TaskRecord;
use crate::store::Store;
use crate::store::error::StoreError;

/// Entries per generation: at about 1 KiB each the cache stays below 32 MiB.
const GENERATION: usize = 16_384;

/// A bounded cache of two generations: what was used since the last change of generation survives the next.
#[derive(Default)]
pub(super) struct TaskCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<TaskId, Arc<TaskRecord>>,
    old: HashMap<TaskId, Arc<TaskRecord>>,
}

impl TaskCache {
    /// The task's record, from memory or the store; `None` when there is none.
    pub(super) async fn get(&self, store: &Store, id: TaskId) -> Result<Option<Arc<TaskRecord>>, StoreError> {
        if let Some(task) = self.cached(id) {
            return Ok(Some(task));
        }
        let task = store.task(id).await?.map(Arc::new);
        if let Some(task) = &task {
            self.put(task.clone());
        }
        Ok(task)
    }

    fn cached(&self, id: TaskId) -> Option<Arc<TaskRecord>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = generations.young.get(&id) {
            return Some(task.clone());
        }
        let task = generations.old.get(&id).cloned()?;
        generations.insert(task.clone());
        Some(task)
    }

    fn put(&self, task: Arc<TaskRecord>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task);
    }
}

impl Generations {
    fn insert(&mut self, task: Arc<TaskRecord>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(task.id, task);
    }
}
