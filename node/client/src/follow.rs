//! The two watches: the document by long poll, the state by server-sent events.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use sluice_node_identity::{ConfigEnvelope, Gap, StateEvent, StateView, api::Refusal};
use tokio::time::timeout;

use crate::{
    Judge,
    call::{self, CALL_TIME, CallError},
    node::Inner,
    pause::Pause,
    sse::Events,
};

/// Longest a poll may take; control answers after 30 s at the latest.
const POLL_TIME: Duration = Duration::from_secs(45);
/// A state feed without a word for this long is taken for dead (three beats).
const SILENCE: Duration = Duration::from_secs(15);
/// The one shape of documents this release reads.
const SCHEMA: u32 = 1;

/// The last good document.
pub(crate) const DOCUMENT: &str = "config.json";
/// The last known state, so that a restart without control forgets no revocation.
pub(crate) const STATE: &str = "state.json";

/// Follows the document until dropped, beginning with the one on disk.
///
/// A document that was refused is judged again with every answer, and every outage, that brings no newer one: what was
/// wrong may have been ours (a clock that was not set yet, a full disk), and control sends each version only once.
pub(crate) async fn document(node: Arc<Inner>, judge: Judge) {
    let stored = node.config.borrow().clone();
    let mut seen = stored.as_ref().map_or(0, |envelope| envelope.version);
    let mut refused = None;
    if let Some(envelope) = stored
        && let Err(reason) = accept(&node, &judge, &envelope).await
    {
        tracing::warn!(version = envelope.version, "the document on disk is not used: {reason:#}");
        refused = Some(envelope);
    }
    let (mut pause, mut log) = (Pause::default(), Outage::new("document"));
    loop {
        let polled = poll(&node, seen).await;
        if let Some(waiting) = &refused
            && !matches!(polled, Ok(Some(_)))
            && accept(&node, &judge, waiting).await.is_ok()
        {
            tracing::info!(version = waiting.version, "a document that was refused is used now");
            node.refuse(waiting.version, String::new()).await;
            refused = None;
        }
        match polled {
            Ok(None) => {}
            Ok(Some(envelope)) if envelope.version != seen => {
                seen = envelope.version;
                let envelope = Arc::new(envelope);
                refused = offer(&node, &judge, &envelope).await.is_err().then_some(envelope);
            }
            // An answer that brings nothing new must not come at once; do not turn in circles.
            Ok(Some(_)) => pause.wait().await,
            Err(error) => {
                log.failed(&error);
                node.not_heard(&error);
                pause.wait().await;
                continue;
            }
        }
        log.over();
        pause.reset();
        node.heard();
        node.let_in();
    }
}

async fn poll(node: &Inner, seen: u64) -> Result<Option<ConfigEnvelope>, CallError> {
    let _door = node.gate.poll().await;
    let path = format!("/node/v1/config?after={seen}&schemas={SCHEMA}");
    let response = node.control.send(node.tls.clone(), Method::GET, &path, Vec::new(), POLL_TIME).await?;
    call::answer(response).await
}

/// A document that has just come: control is told when it is refused.
async fn offer(node: &Inner, judge: &Judge, envelope: &Arc<ConfigEnvelope>) -> anyhow::Result<()> {
    let version = envelope.version;
    let accepted = accept(node, judge, envelope).await;
    match &accepted {
        Ok(()) => tracing::info!(version, "new document"),
        Err(reason) => {
            tracing::warn!(version, "document refused: {reason:#}");
            node.refuse(version, format!("{reason:#}")).await;
        }
    }
    accepted
}

async fn accept(node: &Inner, judge: &Judge, envelope: &Arc<ConfigEnvelope>) -> anyhow::Result<()> {
    readable(node, envelope)?;
    let (judge, disk, judged) = (judge.clone(), node.disk.clone(), envelope.clone());
    // Signatures are checked and files written: nothing else shall wait for that.
    let judging = tokio::task::spawn_blocking(move || {
        judge(&judged)?;
        // The role runs by it now; to call it refused would be a lie, whatever the disk says.
        if let Err(error) = disk.write(DOCUMENT, judged.as_ref()) {
            tracing::warn!("the document is not on disk, a restart without control would use an older one: {error:#}");
        }
        Ok(())
    });
    judging.await.context("judging the document broke off")?.map_err(|reason: String| anyhow!(reason))?;
    node.config.send_replace(Some(envelope.clone()));
    Ok(())
}

/// Whether the envelope is for this node at all; what is inside is for the role to judge.
pub(crate) fn readable(node: &Inner, envelope: &ConfigEnvelope) -> anyhow::Result<()> {
    let (schema, role) = (envelope.schema, envelope.role);
    anyhow::ensure!(schema == SCHEMA, "schema {schema} is not read by this release; it reads schema {SCHEMA}");
    anyhow::ensure!(role == node.joined.role, "the document is for a {role}");
    Ok(())
}

impl Inner {
    /// Tells control that a document cannot be applied; with an empty reason, that it is after all.
    pub(crate) async fn refuse(&self, version: u64, reason: String) {
        let told: Result<(), _> = self.post("/node/v1/refusals", &Refusal { version, reason }).await;
        if let Err(error) = told {
            tracing::debug!("could not tell control about the refusal: {error}");
        }
    }
}

/// Follows the state until dropped.
pub(crate) async fn state(node: Arc<Inner>) {
    let (mut pause, mut log) = (Pause::default(), Outage::new("state"));
    let mut after = node.state.borrow().seq();
    loop {
        let mut connected = false;
        let ended = stream(&node, after, &mut connected).await;
        after = node.state.borrow().seq();
        if connected {
            pause.reset();
            log.over();
        }
        match ended {
            Ok(End::NewKey) => continue,
            Ok(End::Gap(gap)) => {
                tracing::info!("{gap}");
                after = 0;
            }
            Err(error) => {
                log.failed(&error);
                node.not_heard(&error);
            }
        }
        pause.wait().await;
    }
}

/// Why a state feed ended that was not cut.
enum End {
    /// Numbers did not continue.
    Gap(Gap),
    /// This node's key changes; the feed must be opened anew with the next one.
    NewKey,
}

/// Reads one connection's events to its end.
async fn stream(node: &Inner, after: u64, connected: &mut bool) -> Result<End, CallError> {
    let _door = node.gate.feed().await;
    let response = {
        let _call = node.gate.call().await;
        let path = format!("/node/v1/state?after={after}");
        node.control.send(node.tls.clone(), Method::GET, &path, Vec::new(), CALL_TIME).await?
    };
    if response.status() != StatusCode::OK {
        call::answer::<()>(response).await?;
        return Err(CallError::Unreachable(anyhow!("control did not open the state feed")));
    }
    let mut view = if after == 0 { StateView::default() } else { node.state.borrow().as_ref().clone() };
    let mut body = response.into_body();
    let mut events = Events::default();
    loop {
        let frame = tokio::select! {
            frame = timeout(SILENCE, body.frame()) => frame,
            () = node.gate.closing() => return Ok(End::NewKey),
        };
        let frame = frame.map_err(|_| broken("the state feed has fallen silent"))?;
        let frame = frame.ok_or_else(|| broken("control closed the state feed"))?.map_err(broken)?;
        let Ok(bytes) = frame.into_data() else { continue };
        // What came together is made known together: each time, all readers get a view of their own.
        let mut changed = false;
        for data in events.take(&bytes).map_err(broken)? {
            let event: StateEvent =
                serde_json::from_slice(&data).context("not a state event").map_err(CallError::Unreachable)?;
            match view.apply(event) {
                Ok(news) => changed |= news,
                Err(gap) => return Ok(End::Gap(gap)),
            }
            *connected = true;
            node.heard();
        }
        if changed {
            node.state.send_replace(Arc::new(view.clone()));
        }
    }
}

fn broken(error: impl std::fmt::Display) -> CallError {
    CallError::Unreachable(anyhow!("{error}"))
}

/// Writes each new state to disk until dropped; what comes while it writes is written together.
pub(crate) async fn remember(node: Arc<Inner>) {
    let mut state = node.state.subscribe();
    while state.changed().await.is_ok() {
        let snapshot = state.borrow_and_update().snapshot();
        let disk = node.disk.clone();
        let written = tokio::task::spawn_blocking(move || disk.write(STATE, &snapshot)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!("the state is not on disk: {error:#}");
        }
    }
}

/// Logs the start and the end of an outage, not every try in between.
struct Outage {
    what: &'static str,
    since: Option<std::time::Instant>,
}

impl Outage {
    const fn new(what: &'static str) -> Self {
        Self { what, since: None }
    }

    fn failed(&mut self, error: &CallError) {
        if self.since.is_some() {
            tracing::debug!("{} watch: {error}", self.what);
        } else {
            tracing::warn!("{} watch: {error}; going on with what is known", self.what);
            self.since = Some(std::time::Instant::now());
        }
    }

    fn over(&mut self) {
        if let Some(since) = self.since.take() {
            tracing::info!(seconds = since.elapsed().as_secs(), "{} watch: control is back", self.what);
        }
    }
}
