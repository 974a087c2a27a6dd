//! Bytes over TLS, as no client library would send them.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::rig::{Rig, soon};

/// A connection whose bytes the test makes itself.
pub(crate) struct Raw {
    stream: TlsStream<TcpStream>,
}

impl Raw {
    /// Connects; the gateway is to speak HTTP/1.1.
    pub(crate) async fn connect(rig: &Rig) -> Self {
        Self {
            stream: rig.client().connect(&[b"http/1.1"]).await,
        }
    }

    /// Writes bytes. That the gateway has hung up is no failure here: it may, and what it said
    /// can still be read.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = soon("room to write", self.stream.write_all(bytes)).await;
        let _ = soon("room to write", self.stream.flush()).await;
    }

    /// Reads until the gateway closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        let reading = async {
            while let Ok(read @ 1..) = self.stream.read(&mut piece).await {
                bytes.extend_from_slice(&piece[..read]);
            }
        };
        soon("the end of the connection", reading).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads one answer that has a `Content-Length`, or none and no body.
    pub(crate) async fn read_answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let reading = async {
            while !is_whole(&bytes) {
                let byte = self.stream.read_u8().await.expect("a whole answer");
                bytes.push(byte);
            }
        };
        soon("an answer", reading).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Sends bytes over a connection of their own and reads until the gateway closes it.
pub(crate) async fn exchange(rig: &Rig, bytes: &[u8]) -> String {
    let mut raw = Raw::connect(rig).await;
    raw.write(bytes).await;
    raw.read_to_end().await
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().expect("a length"))
    });
    body.len() >= length.unwrap_or(0_usize)
}
