//! `/admin/v1/data…`: the data documents of the policy.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use openidconnect::url::form_urlencoded;

use super::api::{MAX_BODY, RefusalCode, Refused};
use super::asker::Asker;
use super::proposals::answered;
use crate::configuration::apply::Configuration;
use crate::configuration::apply::data::{DataStatus, DataVersion, ShownDocument};
use crate::configuration::apply::proposals::Content;
use crate::policy::data::DataPath;

/// The routes over `configuration`.
pub(super) fn router(configuration: Configuration) -> Router {
    Router::new()
        .route("/admin/v1/data", get(list))
        .route("/admin/v1/data/{document}", get(show).put(put).delete(drop))
        .route("/admin/v1/data/{document}/versions", get(versions))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(configuration)
}

fn bad(message: String) -> Refused {
    Refused::new(RefusalCode::BadRequest, message)
}

fn path(text: &str) -> Result<DataPath, Refused> {
    text.parse().map_err(|why| bad(format!("path: {why}")))
}

/// The one parameter that the query may have.
fn parameter(name: &str, query: Option<String>) -> Result<Option<String>, Refused> {
    let query = query.unwrap_or_default();
    let mut found = None;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key != name || found.is_some() {
            return Err(bad(format!("`{key}`: only `{name}` may be said, once")));
        }
        found = Some(value.into_owned());
    }
    Ok(found)
}

async fn list(State(configuration): State<Configuration>) -> Result<Json<DataStatus>, Refused> {
    Ok(Json(configuration.data_status().await?))
}

/// With `?version=` one that was in force.
async fn show(
    State(configuration): State<Configuration>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ShownDocument>, Refused> {
    let version = parameter("version", query)?;
    Ok(Json(configuration.show_data(path(&text)?, version.as_deref()).await?))
}

async fn versions(
    State(configuration): State<Configuration>,
    Path(text): Path<String>,
) -> Result<Json<Vec<DataVersion>>, Refused> {
    Ok(Json(configuration.data_versions(path(&text)?).await?))
}

/// The body is the document. With `?reason=` why.
async fn put(
    State(configuration): State<Configuration>,
    asker: Asker,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let (path, reason) = (path(&text)?, parameter("reason", query)?);
    let body = body.map_err(|rejection| bad(rejection.body_text()))?;
    let put = configuration.put_data(path.clone(), body.to_vec(), (reason.as_deref(), asker.word())).await;
    let content = async {
        // What was read as JSON is text.
        let document = String::from_utf8_lossy(&body).into_owned();
        Ok(Content::PutData { path, document, reason })
    };
    answered(&configuration, &asker, put, content).await
}

async fn drop(
    State(configuration): State<Configuration>,
    asker: Asker,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let (path, reason) = (path(&text)?, parameter("reason", query)?);
    let dropped = configuration.drop_data(path.clone(), (reason.as_deref(), asker.word())).await;
    answered(&configuration, &asker, dropped, async { Ok(Content::DropData { path, reason }) }).await
}
