//! Alerts and silences over the control socket.

use super::{Answer, Asker, Control};
use crate::{
    alert_test, alerts,
    api::{ActionRequest, AlertInfo, GroupTest, GroupTestRequest, SilenceRequest},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use pgbosun_core::{
    alert::{Alert, Silence},
    outcome::AuditRecord,
};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
pub(super) struct Limit {
    limit: Option<u32>,
}

pub(super) async fn list(State(control): State<Control>, Query(query): Query<Limit>) -> Answer<Vec<AlertInfo>> {
    Ok(Json(alerts::list(&control.engine, query.limit).await?))
}

pub(super) async fn acknowledge(
    State(control): State<Control>,
    Asker(who): Asker,
    Path(id): Path<Uuid>,
    Json(action): Json<ActionRequest>,
) -> Answer<Alert> {
    alerts::acknowledge(&control.engine, &who, id, &action.reason).await.map(Json)
}

pub(super) async fn resolve(
    State(control): State<Control>,
    Asker(who): Asker,
    Path(id): Path<Uuid>,
    Json(action): Json<ActionRequest>,
) -> Answer<Alert> {
    alerts::resolve(&control.engine, &who, id, &action.reason).await.map(Json)
}

pub(super) async fn silences(State(control): State<Control>) -> Answer<Vec<Silence>> {
    Ok(Json(control.engine.journal.silences(control.engine.now()).await?))
}

pub(super) async fn silence(
    State(control): State<Control>,
    Asker(who): Asker,
    Json(request): Json<SilenceRequest>,
) -> Answer<Silence> {
    alerts::silence(&control.engine, &who, request).await.map(Json)
}

pub(super) async fn unsilence(State(control): State<Control>, Asker(who): Asker, Path(id): Path<Uuid>) -> Answer<()> {
    alerts::unsilence(&control.engine, &who, id).await.map(Json)
}

pub(super) async fn test(
    State(control): State<Control>,
    Asker(who): Asker,
    Json(request): Json<GroupTestRequest>,
) -> Answer<GroupTest> {
    let tested = alert_test::send(&control.engine.config(), &request.group).await;
    let outcome = tested.as_ref().map(GroupTest::outcome).unwrap_or_default();
    let record = AuditRecord::new("alert test", request.group, "").came(outcome);
    control.engine.audited(&who, record, tested).await.map(Json)
}
