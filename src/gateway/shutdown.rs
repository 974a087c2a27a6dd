//! The end: no new work, finish what runs, close, leave nothing.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    backend::Backend,
    gateway::{Shared, Signal},
    session::EndReason,
};

/// Drains and closes the gateway; a further stop cuts the waiting short.
pub(super) async fn run(shared: &Arc<Shared>, signals: &mut mpsc::Receiver<Signal>) {
    let timeout = shared.config.lock().drain_timeout;
    shared.drain.drain();
    tracing::info!(?timeout, "draining");
    shared.server.close_stateless();
    let at_once = tokio::select! {
        idle = idle(shared, timeout) => {
            if !idle {
                tracing::warn!("calls are still in flight after drain_timeout");
            }
            false
        }
        () = stopped_again(signals) => true,
    };
    if at_once {
        // What is dropped with the runtime is killed.
        tracing::warn!("stopping at once");
        // The log is owed the outcome of what was in flight.
        shared.server.sessions().end_all(EndReason::Drain);
        backends(shared).iter().for_each(|backend| backend.abort());
        shared.log.load().stop().await;
        return;
    }
    shared.server.sessions().end_all(EndReason::Drain);
    shared.drain.close();
    let backends = async {
        let closing = backends(shared).into_iter().map(|backend| {
            // Not through the gateway's own drain, which waits for this.
            let task = async move { backend.close().await };
            shared.drain.spawn(task)
        });
        for task in closing.collect::<Vec<_>>() {
            let _ = task.await;
        }
    };
    let ended = async {
        tokio::join!(backends, async {
            let _ = tokio::time::timeout(LAST_BYTES, shared.drain.wait()).await;
        });
    };
    tokio::select! {
        () = ended => {}
        () = stopped_again(signals) => {}
    }
    shared.log.load().stop().await;
    tracing::info!("stopped");
}

/// True once nothing is in flight, false when that takes too long.
async fn idle(shared: &Shared, timeout: Duration) -> bool {
    let end = Instant::now() + timeout;
    while shared.server.in_flight() > 0 {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

async fn stopped_again(signals: &mut mpsc::Receiver<Signal>) {
    while let Some(signal) = signals.recv().await {
        if matches!(signal, Signal::Stop) {
            return;
        }
    }
    std::future::pending().await
}

fn backends(shared: &Shared) -> Vec<Arc<Backend>> {
    let snapshot = shared.server.snapshot();
    let current = snapshot
        .backends
        .values()
        .map(|served| served.backend.clone());
    current.chain(shared.retired.lock().drain(..)).collect()
}

/// How often it is looked whether calls are in flight.
const LOOK: Duration = Duration::from_millis(20);
/// For connections to send what they have.
const LAST_BYTES: Duration = Duration::from_secs(5);
