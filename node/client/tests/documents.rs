//! Documents: taken, refused, tried again, kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod fake;
mod rig;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use fake::Control;
use rig::{PATIENCE, Running, envelope, joined, reopened, run, until, version};
use sluice_node_client::Node;
use sluice_node_identity::{ConfigEnvelope, Role};
use tokio::{sync::watch, time::timeout};

#[tokio::test]
async fn document_arrives_and_survives_a_restart_without_control() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let node = joined(&dir, &control).await;
    let running = run(&node);
    for number in [1, 2] {
        control.world().config = Some(envelope(number));
        until("document", || version(&node) == Some(number)).await;
    }
    drop(running);
    control.stop();
    assert_eq!(version(&reopened(&dir, &control).await), Some(2));
}

#[tokio::test]
async fn unreadable_document_changes_nothing_and_control_learns_why() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let node = joined(&dir, &control).await;
    let _running = run(&node);
    control.world().config = Some(envelope(1));
    until("document", || version(&node) == Some(1)).await;
    control.world().config = Some(ConfigEnvelope { role: Role::Gateway, ..envelope(2) });
    until("refusal", || control.world().refusals.len() == 1).await;
    control.world().config = Some(ConfigEnvelope { schema: 9, ..envelope(3) });
    until("refusal", || control.world().refusals.len() == 2).await;
    assert_eq!(version(&node), Some(1));
    let refusals = control.world().refusals.clone();
    assert_eq!((refusals[0].version, refusals[1].version), (2, 3));
    assert!(refusals[1].reason.contains("schema 9"), "{refusals:?}");
    control.world().config = Some(envelope(4));
    until("document", || version(&node) == Some(4)).await;
}

/// A judge that refuses until its clock is set.
#[derive(Clone, Default)]
struct Clock {
    set: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Clock {
    fn run(&self, node: &Node) -> Running {
        let (stop, stopped) = watch::channel(false);
        let (node, clock) = (node.clone(), self.clone());
        let judge = move |_: &ConfigEnvelope| {
            clock.asked.fetch_add(1, Ordering::SeqCst);
            if clock.set.load(Ordering::SeqCst) { Ok(()) } else { Err("no clock".to_owned()) }
        };
        Running(tokio::spawn(async move { node.run_judging(stopped, Arc::new(judge)).await }), stop)
    }
}

#[tokio::test]
async fn document_refused_for_a_passing_reason_is_used_when_the_reason_has_gone() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let node = joined(&dir, &control).await;
    let clock = Clock::default();
    {
        let _running = clock.run(&node);
        control.world().config = Some(envelope(1));
        until("refusal", || control.world().refusals.len() == 1).await;
        assert_eq!(version(&node), None);
        clock.set.store(true, Ordering::SeqCst);
        until("second judgement", || version(&node) == Some(1)).await;
        until("taking back", || control.world().refusals.len() == 2).await;
        let told = control.world().refusals.clone();
        assert_eq!((told[1].version, told[1].reason.as_str()), (1, ""), "told once, and taken back");
    }
    // The same with the one on disk, which control will not send again.
    let clock = Clock::default();
    let node = reopened(&dir, &control).await;
    let mut used = node.config();
    used.mark_unchanged();
    let _running = clock.run(&node);
    until("first judgement", || clock.asked.load(Ordering::SeqCst) > 0).await;
    assert!(!used.has_changed().unwrap());
    clock.set.store(true, Ordering::SeqCst);
    timeout(PATIENCE, used.changed()).await.expect("judged again").unwrap();
    assert_eq!(version(&node), Some(1));
}

#[tokio::test]
async fn document_that_is_in_use_counts_although_the_disk_is_full() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let node = joined(&dir, &control).await;
    std::fs::create_dir(dir.path().join("state/config.json.new")).unwrap();
    let _running = run(&node);
    control.world().config = Some(envelope(1));
    until("use", || version(&node) == Some(1)).await;
    assert!(control.world().refusals.is_empty());
}

#[tokio::test]
async fn document_that_the_role_cannot_apply_is_refused_and_the_last_good_one_stays() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let node = joined(&dir, &control).await;
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let node = node.clone();
        let judge =
            |envelope: &ConfigEnvelope| if envelope.version == 2 { Err("two is odd".to_owned()) } else { Ok(()) };
        async move { node.run_judging(stopped, Arc::new(judge)).await }
    });
    for number in [1, 2] {
        control.world().config = Some(envelope(number));
        until("answer", || version(&node) == Some(number) || !control.world().refusals.is_empty()).await;
    }
    assert_eq!(control.world().refusals[0].reason, "two is odd");
    running.abort();
    control.stop();
    assert_eq!(version(&node), Some(1));
    assert_eq!(version(&reopened(&dir, &control).await), Some(1));
}
