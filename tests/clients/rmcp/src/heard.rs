//! What the server asked and told this client, and what it was answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use rmcp::{
    ErrorData,
    handler::client::ClientHandler,
    model::{
        ClientConfig, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams,
        ElicitResult, ListRootsResult, LoggingMessageNotificationParam, ProgressNotificationParam,
        ProgressToken, ResourceUpdatedNotificationParam,
    },
    service::{NotificationContext, RequestContext, RoleClient},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A notification that is due comes within this.
const WAIT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(crate) struct Heard(Arc<Inner>);

struct Inner {
    elicited: Value,
    roots: Value,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    progress: Mutex<Vec<(ProgressToken, f64)>>,
    changed: Notify,
}

impl Heard {
    pub(crate) fn new(plan: &Value) -> Self {
        let kinds = ["elicitation", "logs", "roots", "sampling", "updates"];
        Self(Arc::new(Inner {
            elicited: plan.get("elicited").cloned().unwrap_or(json!({})),
            roots: plan.get("roots").cloned().unwrap_or(json!([])),
            counts: Mutex::new(kinds.map(|kind| (kind, 0)).into()),
            progress: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    pub(crate) fn counts(&self) -> Value {
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        json!(&*counts)
    }

    pub(crate) fn count(&self, kind: &str) -> u64 {
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(kind).copied().unwrap_or(0)
    }

    /// Whether a call of this token has made progress.
    pub(crate) fn progressed(&self, token: &ProgressToken) -> bool {
        let all = self
            .0
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|(of, _)| of == token)
    }

    /// All progress but the first so many notifications, whatever their token.
    pub(crate) fn progress_since(&self, first: usize) -> Vec<f64> {
        let all = self
            .0
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .skip(first)
            .map(|(_, progress)| *progress)
            .collect()
    }

    /// Returns once `reached` holds; it is asked again whenever something was heard.
    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) -> Result<()> {
        let waiting = async {
            loop {
                let changed = self.0.changed.notified();
                if reached(self) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(WAIT, waiting).await.is_err() {
            bail!("{what} not heard in time; heard {}", self.counts());
        }
        Ok(())
    }

    pub(crate) fn note(&self, kind: &'static str) {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(kind).or_default() += 1;
        self.0.changed.notify_waiters();
    }
}

impl ClientHandler for Heard {
    fn get_info(&self) -> ClientConfig {
        crate::introduction().unwrap_or_default()
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.note("sampling");
        let asked = json!(params)["messages"][0]["content"]["text"].clone();
        let text = format!("sampled <{}>", asked.as_str().unwrap_or_default());
        answer(json!({
            "role": "assistant", "model": "test-model", "content": {"type": "text", "text": text},
        }))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.note("elicitation");
        answer(json!({"action": "accept", "content": self.0.elicited}))
    }

    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        self.note("roots");
        answer(json!({"roots": self.0.roots}))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let mut all = self
            .0
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push((params.progress_token, params.progress));
        drop(all);
        self.0.changed.notify_waiters();
    }

    async fn on_logging_message(
        &self,
        _: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note("logs");
    }

    async fn on_resource_updated(
        &self,
        _: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note("updates");
    }
}

fn answer<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}
