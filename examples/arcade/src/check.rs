//! `arcade check`: is the service beside me healthy? Without a runtime, since it runs often.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::settings::{Error, Settings};

const WAIT_MAX: Duration = Duration::from_secs(2);

pub(crate) fn run() -> Result<(), Error> {
    let port = Settings::from_environment()?.port;
    let failed = |why: String| Error::Check(format!("http://127.0.0.1:{port}/healthz: {why}"));
    let answer = ask(port).map_err(|error| failed(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(failed(format!("{} {}", head.lines().next().unwrap_or("no answer"), body.trim())))
    }
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), WAIT_MAX)?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.set_write_timeout(Some(WAIT_MAX))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
