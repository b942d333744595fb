//! WebSockets with bounds: what a server says is read with limits, and waited for with a deadline.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// The largest message of a server is a description with two m-lines: some 10 KiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// On one machine everything takes milliseconds, unless it is busy with many joins.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A connection to a server.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects; `protocol` is the subprotocol that the server wants to hear.
    pub(crate) async fn connect(url: &str, protocol: Option<&'static str>) -> Result<Socket> {
        let mut request = url
            .into_client_request()
            .context("the address of the server")?;
        if let Some(protocol) = protocol {
            let headers = request.headers_mut();
            headers.insert("Sec-WebSocket-Protocol", protocol.parse()?);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let connecting = connect_async_with_config(request, Some(config), true);
        let connected = tokio::time::timeout(ANSWER_WITHIN, connecting).await;
        let (socket, _) = connected
            .context("the server does not answer")?
            .context("the server takes no WebSocket")?;
        Ok(Socket(socket))
    }

    pub(crate) async fn send_text(&mut self, text: String) -> Result<()> {
        self.send(Message::text(text)).await
    }

    pub(crate) async fn send_binary(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.send(Message::binary(bytes)).await
    }

    /// The next message with something in it, as bytes; pings are answered on the way. Can be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            let message = self.0.next().await.context("the server hung up")?;
            match message.context("the connection to the server")? {
                Message::Text(text) => return Ok(text.as_bytes().to_vec()),
                Message::Binary(bytes) => return Ok(bytes.to_vec()),
                Message::Close(_) => bail!("the server hung up"),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Says that it is over; what the server makes of it does not matter any more.
    pub(crate) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.close(None)).await;
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        ensure!(
            message.len() <= MESSAGE_BYTES_MAX,
            "a message of {} bytes",
            message.len()
        );
        let sent = tokio::time::timeout(ANSWER_WITHIN, self.0.send(message)).await;
        sent.context("the server does not read")?
            .context("the connection to the server")
    }
}
