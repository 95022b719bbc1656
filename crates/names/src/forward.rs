//! Questions passed on to other servers, and their answers brought back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::message::Question;

/// How long one server may take; those who ask wait five seconds as a rule.
const SERVER_MAX: Duration = Duration::from_secs(2);
/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// The answer of the first server that has one.
pub(crate) async fn ask(
    question: &Question<'_>,
    message: &[u8],
    to: &[SocketAddr],
) -> Option<Vec<u8>> {
    let mut last = None;
    for server in to {
        let Ok(Ok(answer)) = timeout(SERVER_MAX, ask_one(question, message, *server)).await else {
            continue;
        };
        // One that fails or refuses leaves it to the next.
        let is_final = !matches!(answer.get(3).map(|flags| flags & 15), Some(2 | 5));
        last = Some(answer);
        if is_final {
            break;
        }
    }
    last
}

async fn ask_one(question: &Question<'_>, message: &[u8], to: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket of its own, so that its port is as hard to guess as the kernel makes it.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    socket.send(message).await?;
    let mut answer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
    loop {
        answer.clear();
        socket.recv_buf(&mut answer).await?;
        if question.is_answered_by(&answer) {
            return Ok(answer);
        }
    }
}

/// The same over TCP.
pub(crate) async fn ask_by_tcp(message: &[u8], to: &[SocketAddr]) -> Option<Vec<u8>> {
    for server in to {
        let exchange = async {
            let mut stream = TcpStream::connect(server).await?;
            send(&mut stream, message).await?;
            receive(&mut stream).await
        };
        if let Ok(Ok(answer)) = timeout(SERVER_MAX, exchange).await {
            return Some(answer);
        }
    }
    None
}

/// One message of a stream, which says its length first.
pub(crate) async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

pub(crate) async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
