//! One browser's WebSocket: understands what it says, keeps its pace, gives it what its room says.
//!
//! A session sits in at most one room; `join` and `watch` change rooms. It ends when the browser
//! goes, breaks the protocol, floods, stays silent, cannot keep up, or the arena stops.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::lobby::{Lobby, Seat, Wish};
use super::room::{MESSAGES_MAX, Order, Player};
use super::wire::{self, MESSAGE_MAX, Said};
use crate::scores::table::{COLOURS, clean_name};
use crate::settings::stopped;

/// Messages that a browser may send within [`BEAT`]; a fast player sends a tenth of it.
const MESSAGES_PER_BEAT_MAX: u32 = 600;

/// How often the browser is asked for a sign of life.
const BEAT: Duration = Duration::from_secs(15);

/// Beats without a sign of life after which a session ends.
const SILENT_BEATS_MAX: u32 = 3;

/// Longest wait until the browser takes a message.
const SEND_MAX: Duration = Duration::from_secs(10);

/// Longest wait until the browser has heard why a session ends.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Why a session ends.
enum End {
    /// The browser closed or broke off; nothing can be said any more.
    Gone,
    Close(CloseCode, &'static str),
}

struct Session<S> {
    socket: WebSocketStream<S>,
    lobby: Arc<Lobby>,
    seat: Option<Seat>,
    messages: mpsc::Receiver<Utf8Bytes>,
}

/// Serves one WebSocket until its end.
pub(crate) async fn run<S>(stream: S, lobby: Arc<Lobby>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (_, messages) = mpsc::channel(1);
    let mut session = Session { socket, lobby, seat: None, messages };
    let end = session.serve(&mut stop).await;
    session.leave().await;
    if let End::Close(code, reason) = end {
        let frame = CloseFrame { code, reason: reason.into() };
        let goodbye = async {
            session.socket.close(Some(frame)).await?;
            // Whatever is still on its way must be read, or the end would overtake the reason.
            while session.socket.next().await.transpose()?.is_some() {}
            Ok::<_, tokio_tungstenite::tungstenite::Error>(())
        };
        // The browser may be gone already, which is as good.
        let _ = timeout(GOODBYE_MAX, goodbye).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut silent_beats) = (0, 0);
        loop {
            let seated = self.seat.is_some();
            let done = tokio::select! {
                biased;
                () = stopped(stop) => {
                    // The browser connects again and another copy of the arena takes it.
                    let _ = self.send(Message::text(wire::MOVE)).await;
                    Err(End::Close(CloseCode::Restart, "this arena stops"))
                }
                message = self.socket.next() => {
                    heard += 1;
                    silent_beats = 0;
                    if heard > MESSAGES_PER_BEAT_MAX {
                        Err(End::Close(CloseCode::Policy, "too many messages"))
                    } else {
                        self.hear(message).await
                    }
                }
                message = self.messages.recv(), if seated => match message {
                    Some(message) => self.send(Message::Text(message)).await,
                    None => Err(End::Close(CloseCode::Again, "too slow for the game")),
                },
                _ = beats.tick() => {
                    heard = 0;
                    silent_beats += 1;
                    if silent_beats > SILENT_BEATS_MAX {
                        Err(End::Close(CloseCode::Away, "no sign of life"))
                    } else {
                        self.send(Message::Ping(bytes::Bytes::new())).await
                    }
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn hear(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), End> {
        use tokio_tungstenite::tungstenite::Error;
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => {
                return Err(End::Close(CloseCode::Unsupported, "text messages only"));
            }
            Some(Err(Error::Capacity(_))) => {
                return Err(End::Close(CloseCode::Size, "the message is too long"));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
        };
        let Ok(said) = serde_json::from_str::<Said>(&text) else {
            return Err(End::Close(CloseCode::Policy, "not a message of this game"));
        };
        match said {
            Said::Join { name, colour, speed } => {
                let player = Player { name: clean_name(&name), colour: colour % COLOURS };
                self.change_room(Wish::Play(speed), Some(player)).await
            }
            Said::Watch { speed } => self.change_room(Wish::Watch(speed), None).await,
            Said::Turn { d } => {
                let at = Instant::now();
                self.order(|member| Order::Turn { member, direction: d, at }).await;
                Ok(())
            }
            Said::Again => {
                self.order(|member| Order::Again { member }).await;
                Ok(())
            }
            Said::Ping { at } => self.send(Message::Text(wire::pong(at))).await,
        }
    }

    async fn change_room(&mut self, wish: Wish, player: Option<Player>) -> Result<(), End> {
        self.leave().await;
        let Some(seat) = self.lobby.seat(wish) else {
            return self.send(Message::text(wire::FULL)).await;
        };
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        self.messages = receiver;
        self.seat = Some(seat);
        self.order(|member| Order::Enter { member, player, messages: sender }).await;
        Ok(())
    }

    async fn leave(&mut self) {
        self.order(|member| Order::Leave { member }).await;
        self.seat = None;
    }

    /// Tells the room, if there is one. A room that has ended needs to know nothing.
    ///
    /// Takes `&mut self`, since a socket may not be shared between threads while this waits.
    async fn order(&mut self, order: impl FnOnce(crate::game::SnakeId) -> Order) {
        if let Some(seat) = &self.seat {
            let _ = seat.orders.send(order(seat.member)).await;
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_MAX, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}
