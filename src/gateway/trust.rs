//! Connections whose clients have shown a certificate.
//!
//! Owns the question whether a certificate that was good at the handshake still is. Invariant: when
//! authorities or revocation lists change, a connection goes on only if its certificate is good by
//! the new ones.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    audit::{self, Decision, Event, Name},
    auth::mtls::Certificate,
    gateway::Shared,
    http::{Ends, connection},
    tls::Connection,
};

/// Serves a connection for as long as its client is trusted.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    stream: Connection,
    (peer, local): (SocketAddr, SocketAddr),
) {
    let (protocol, server) = (stream.alpn(), shared.server.clone());
    let chain: Vec<_> = stream.peer_certificates().to_vec();
    let certificate = chain.first().map(|leaf| Arc::new(Certificate::read(leaf)));
    let ends = Ends {
        peer,
        local,
        certificate,
    };
    // Subscribed before the certificate is looked at once more, so that no change is missed.
    let changes = shared.trust.subscribe();
    let serve = connection::serve(server, stream, protocol, ends);
    if chain.is_empty() {
        return serve.await;
    }
    tokio::select! {
        () = serve => {}
        () = distrusted(shared, changes, &chain) => {
            tracing::info!("a client's certificate is trusted no more: its connection ends");
            refused(shared, peer.ip());
        }
    }
}

/// Resolves when a chain is good no more.
async fn distrusted(
    shared: &Shared,
    mut changes: watch::Receiver<u64>,
    chain: &[rustls::pki_types::CertificateDer<'_>],
) {
    while shared.acceptor.load().trusts(chain) {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Records that a client's certificate was refused.
pub(super) fn refused(shared: &Shared, client: IpAddr) {
    shared.log.load().note(&audit::Event {
        client: Some(client),
        decision: Some(Decision::Deny),
        rule: Some("certificate"),
        ..Event::new(Name::AuthFailed)
    });
}
