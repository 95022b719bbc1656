//! How clients come in: what a listener offers and demands.
//!
//! Not here: accepting, and TLS itself (`net`). Invariant: who may come in without saying who it is
//! comes from this machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::sasl::Mechanism;

/// Who a client is told to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertised {
    /// The address that the client connected to: whoever got here by it gets here again.
    AsConnected,
    /// A name and port.
    As(String, u16),
}

/// A way in.
#[derive(Clone)]
pub struct Listener {
    /// What it is called.
    pub name: String,
    /// Who its clients are told to connect to.
    pub advertised: Advertised,
    /// Its TLS, if it has any.
    pub tls: Option<Arc<net::Tls>>,
    /// How clients may say who they are.
    pub mechanisms: Vec<Mechanism>,
    /// Whether a client need not say who it is, by SASL or by a certificate.
    pub anonymous: bool,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("name", &self.name)
            .field("advertised", &self.advertised)
            .field("tls", &self.tls.is_some())
            .field("mechanisms", &self.mechanisms)
            .field("anonymous", &self.anonymous)
            .finish()
    }
}

impl From<Advertised> for Listener {
    /// One for this machine: no TLS, and nobody need say who it is.
    fn from(advertised: Advertised) -> Listener {
        let (name, mechanisms) = ("PLAINTEXT".to_owned(), Vec::new());
        Listener { name, advertised, tls: None, mechanisms, anonymous: true }
    }
}

impl Listener {
    /// Where it may listen when it is to listen at `wanted`, and what to say when that is not the
    /// same.
    pub fn address(&self, wanted: SocketAddr) -> (SocketAddr, Option<String>) {
        if !self.anonymous || wanted.ip().to_canonical().is_loopback() {
            return (wanted, None);
        }
        let loopback = match wanted.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let instead = SocketAddr::new(loopback, wanted.port());
        let why = format!(
            "listener {} stays on {instead} and not {wanted}: whoever reaches it may do anything; \
             give it users (SASL) or client certificates first",
            self.name
        );
        (instead, Some(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_comes_from_this_machine() {
        let mut listener = Listener::from(Advertised::AsConnected);
        let (wide, near) = ("0.0.0.0:9092".parse().unwrap(), "127.64.0.3:9092".parse().unwrap());
        assert_eq!(listener.address(near), (near, None));
        let (instead, why) = listener.address(wide);
        assert_eq!(instead, "127.0.0.1:9092".parse().unwrap());
        assert!(why.unwrap().contains("PLAINTEXT stays on 127.0.0.1:9092"));
        assert_eq!(listener.address("[::]:1".parse().unwrap()).0, "[::1]:1".parse().unwrap());
        listener.anonymous = false;
        assert_eq!(listener.address(wide), (wide, None));
    }
}
