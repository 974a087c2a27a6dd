//! An HTTP/2 connection, shared by the calls of one session.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::net::Endpoint;

/// A cheap handle on one connection.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// Runs hyper's tasks on this thread.
#[derive(Clone)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

impl Connection {
    /// Connects to `endpoint`, which must speak HTTP/2.
    ///
    /// # Errors
    /// What the socket, the handshakes or the peer say.
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let io = TokioIo::new(endpoint.connect().await?);
        let (sender, connection) = http2::handshake(Local, io)
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // Its end shows in the requests that fail.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Sends a request, reads the answer's head and puts its whole body into `body`.
    ///
    /// # Errors
    /// The connection or the stream broke.
    pub async fn exchange(
        &mut self,
        request: http::Request<Full<Bytes>>,
        body: &mut Vec<u8>,
    ) -> io::Result<http::response::Parts> {
        self.sender.ready().await.map_err(io::Error::other)?;
        let answer = self
            .sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let (head, mut stream) = answer.into_parts();
        while let Some(frame) = stream.frame().await {
            if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                body.extend_from_slice(&data);
            }
        }
        Ok(head)
    }
}
