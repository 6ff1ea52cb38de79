//! The one queue to the kernel writer: in order, bounded, and final when it cannot be kept.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use sluice_discovery_rules::{EdgeDocument, staging::Action};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::Kernel;

/// Orders that wait. More means that the writer hangs; then the agent ends, and with it every admission.
const MAX_WAITING: usize = 16 * 1024;

enum Order {
    Apply(Action),
    Document(Arc<EdgeDocument>, oneshot::Sender<Result<(), String>>),
    Mark(oneshot::Sender<()>),
}

/// Gives orders.
#[derive(Clone)]
pub(crate) struct Orders(mpsc::Sender<Order>);

/// Has them carried out.
pub(crate) struct Queue(mpsc::Receiver<Order>);

pub(crate) fn queue() -> (Orders, Queue) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Orders(sender), Queue(receiver))
}

impl Orders {
    /// Queues actions in their order.
    ///
    /// # Errors
    /// When the queue is full or gone: the caller must end the agent.
    pub(crate) fn apply(&self, actions: Vec<Action>) -> anyhow::Result<()> {
        actions.into_iter().try_for_each(|action| {
            self.0.try_send(Order::Apply(action)).map_err(|_| anyhow!("the kernel writer does not keep up"))
        })
    }

    /// Waits until everything queued so far is carried out.
    pub(crate) async fn done(&self) -> anyhow::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Order::Mark(sender)).await.map_err(|_| anyhow!("the kernel writer is gone"))?;
        receiver.await.context("the kernel writer is gone")
    }

    /// Puts a document in force; the inner error says why not.
    pub(crate) async fn document(&self, document: Arc<EdgeDocument>) -> anyhow::Result<Result<(), String>> {
        let (sender, receiver) = oneshot::channel();
        let order = Order::Document(document, sender);
        self.0.send(order).await.map_err(|_| anyhow!("the kernel writer is gone"))?;
        receiver.await.context("the kernel writer is gone")
    }
}

impl Queue {
    /// Until the writer fails.
    pub(crate) async fn run(mut self, mut kernel: impl Kernel) -> anyhow::Result<()> {
        let mut waiting = Vec::new();
        while self.0.recv_many(&mut waiting, MAX_WAITING).await > 0 {
            // Devices go together: a revocation must not wait for a crowd of check-ins, one after the other.
            let mut devices = Vec::new();
            for order in waiting.drain(..) {
                match order {
                    Order::Apply(action) => devices.push(action),
                    Order::Document(document, answer) => {
                        apply(&mut kernel, &mut devices).await?;
                        // Nobody waiting any more is no reason to stop.
                        let _gone = answer.send(kernel.document(&document).await?);
                    }
                    Order::Mark(reached) => {
                        apply(&mut kernel, &mut devices).await?;
                        let _gone = reached.send(());
                    }
                }
            }
            apply(&mut kernel, &mut devices).await?;
        }
        Ok(())
    }
}

async fn apply(kernel: &mut impl Kernel, devices: &mut Vec<Action>) -> anyhow::Result<()> {
    for action in &*devices {
        match action {
            Action::Admit { mac, address } => tracing::debug!(%mac, %address, "admit"),
            Action::Restage { mac, address } => info!(%mac, %address, "staged again"),
        }
    }
    if !devices.is_empty() {
        kernel.apply(devices).await.context("the kernel writer did not carry out an admission")?;
        devices.clear();
    }
    Ok(())
}
