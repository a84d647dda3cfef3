//! Alerts and silences over the control socket.

use super::{Answer, Control, Peer};
use crate::{
    alert_test, alerts,
    api::{Action, AlertInfo, GroupTest, GroupTestRequest, SilenceRequest},
};
use axum::{
    Json,
    extract::{ConnectInfo, Path, Query, State},
};
use pgbosun_core::alert::{Alert, Silence};
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
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Path(id): Path<Uuid>,
    Json(action): Json<Action>,
) -> Answer<Alert> {
    alerts::acknowledge(&control.engine, &who, id, &action.reason).await.map(Json)
}

pub(super) async fn resolve(
    State(control): State<Control>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Path(id): Path<Uuid>,
    Json(action): Json<Action>,
) -> Answer<Alert> {
    alerts::resolve(&control.engine, &who, id, &action.reason).await.map(Json)
}

pub(super) async fn silences(State(control): State<Control>) -> Answer<Vec<Silence>> {
    Ok(Json(control.engine.journal.silences(control.engine.now()).await?))
}

pub(super) async fn silence(
    State(control): State<Control>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Json(request): Json<SilenceRequest>,
) -> Answer<Silence> {
    alerts::silence(&control.engine, &who, request).await.map(Json)
}

pub(super) async fn unsilence(
    State(control): State<Control>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Path(id): Path<Uuid>,
) -> Answer<()> {
    alerts::unsilence(&control.engine, &who, id).await.map(Json)
}

pub(super) async fn test(
    State(control): State<Control>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Json(request): Json<GroupTestRequest>,
) -> Answer<GroupTest> {
    let tested = alert_test::send(&control.engine.config(), &request.group).await?;
    let refused = tested.channels.iter().filter(|tried| !tried.accepted).map(|tried| tried.channel.as_str());
    let refused = refused.collect::<Vec<_>>().join(", ");
    let came_of_it = if refused.is_empty() { "accepted".to_owned() } else { format!("not accepted by {refused}") };
    control.engine.journal.audit(&who, "alert test", &request.group, &came_of_it).await?;
    Ok(Json(tested))
}
