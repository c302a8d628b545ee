//! `/admin/v1/tasks/{id}`: a task with all its tokens.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};

use super::api::{RefusalCode, Refused};
use crate::domain::ids::TaskId;
use crate::tasks::tree::TaskView;
use crate::tasks::{Tasks, Viewer};

/// The task, or why it is not shown: what both the socket and a command without a server tell.
pub async fn seen(tasks: &Tasks, id: &str) -> Result<TaskView, Refused> {
    let parsed: Result<TaskId, _> = id.parse();
    let id = parsed.map_err(|bad| Refused::new(RefusalCode::BadRequest, format!("task: {bad}")))?;
    let view = tasks.view(Viewer::Admin, id).await;
    let view = view.map_err(|fault| Refused::new(RefusalCode::Unavailable, fault.to_string()))?;
    let unknown = || {
        let message = format!(
            "no task `{id}` is on record: an exchange answers with its `task_id`, and so does every token"
        );
        Refused::new(RefusalCode::NotFound, message)
    };
    view.ok_or_else(unknown)
}

pub(super) fn router(tasks: Tasks) -> Router {
    Router::new().route("/admin/v1/tasks/{id}", get(task)).with_state(tasks)
}

async fn task(State(tasks): State<Tasks>, Path(id): Path<String>) -> Result<Json<TaskView>, Refused> {
    Ok(Json(seen(&tasks, &id).await?))
}
