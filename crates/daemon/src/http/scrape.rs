//! `/metrics` over TCP, on the configured address.

use super::connections::Scrapes;
use crate::{engine::Engine, error::chain, metrics};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use pgbosun_core::config::Listen;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// How often an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// The media type of what we write.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until the daemon stops. An address that cannot be had costs no backup: it is said, and tried again.
pub(crate) async fn serve(engine: Arc<Engine>) {
    let Listen::At(address) = engine.config().daemon.metrics_address else {
        return engine.stop.cancelled().await;
    };
    let mut said = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !said => {
                tracing::error!(
                    "/metrics cannot be served on {address}: {error}; set daemon.metrics-address to a free one, or to \"off\""
                );
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = engine.stop.cancelled() => return,
        }
    };
    let stop = engine.stop.clone();
    let routes = Router::new().route("/metrics", get(page)).with_state(engine);
    let served =
        axum::serve(Scrapes::new(listener), routes).with_graceful_shutdown(async move { stop.cancelled().await }).await;
    if let Err(error) = served {
        tracing::error!("/metrics: {error}");
    }
}

/// The answer, here and on the control socket.
pub(crate) async fn page(State(engine): State<Arc<Engine>>) -> Response {
    match metrics::text(&engine).await {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, chain(&error)).into_response(),
    }
}
