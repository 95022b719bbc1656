//! TLS on accepted connections.
//!
//! Not here: the protocol inside, and who may connect: what comes out is a stream and, where the
//! client showed a certificate, the subject of it. Invariants: a handshake has a bound in time, and
//! all of them one in number; certificates are read again when their files change, and when the
//! new ones are no good the old ones stay in use.

mod made;
mod stream;
mod subject;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base::{Clock, SteadyNanos};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

pub use made::{Made, make_certificate};
pub use stream::Stream;
pub use subject::Subject;

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The largest file of certificates that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a listener with TLS needs.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// A PEM file: the server's certificate, then those between it and its root.
    pub certificates: PathBuf,
    /// A PEM file: the private key (PKCS #8, PKCS #1 or SEC 1), not encrypted.
    pub key: PathBuf,
    /// Whose certificates clients may show, if any.
    pub clients: Option<ClientCertificates>,
    /// Names of protocols to agree on (ALPN), the preferred first; none: clients need not say.
    pub protocols: Vec<Vec<u8>>,
    /// How long a handshake may take.
    pub handshake_max: Duration,
    /// How many handshakes go on at once; more wait within their own time.
    pub handshakes_max: usize,
}

/// What clients show.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// A PEM file: the authorities that sign them. Certificates are of X.509 version 3.
    pub authorities: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}

impl TlsConfig {
    /// A server that asks clients for nothing, with bounds that suit most.
    pub fn new(certificates: PathBuf, key: PathBuf) -> TlsConfig {
        let (handshake_max, handshakes_max) = (Duration::from_secs(10), 256);
        let (clients, protocols) = (None, Vec::new());
        TlsConfig { certificates, key, clients, protocols, handshake_max, handshakes_max }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let clients = self.clients.iter().map(|clients| clients.authorities.as_path());
        [self.certificates.as_path(), self.key.as_path()].into_iter().chain(clients)
    }
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}: name a PEM file that this user may read", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} holds no {what}: it must be PEM ({cause})", .file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is missing.
        what: &'static str,
        /// What the parser says.
        cause: String,
    },
    /// Certificate and key do not work together, or not at all.
    #[error("the certificate in {} cannot be used: {cause}", .file.display())]
    Unusable {
        /// The certificate.
        file: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("the TLS handshake took longer than {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The two sides did not agree, or the client broke off.
    #[error("TLS handshake: {0}")]
    Failed(io::Error),
}

/// Takes accepted connections through their handshakes.
pub struct Tls {
    config: TlsConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    handshakes: Semaphore,
}

struct State {
    server: Arc<ServerConfig>,
    /// What the files looked like when they were read, or last failed to be.
    seen: Vec<Seen>,
    looked: SteadyNanos,
    /// Why the newest files are not in use.
    problem: Option<String>,
}

/// Changes whenever a file is written or replaced.
type Seen = Option<(SystemTime, u64, u64)>;

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn open(config: TlsConfig, clock: Arc<dyn Clock>) -> Result<Tls, TlsError> {
        let seen = config.files().map(see).collect();
        let server = Arc::new(load(&config)?);
        let state = Mutex::new(State { server, seen, looked: clock.steady(), problem: None });
        let handshakes = Semaphore::new(config.handshakes_max.clamp(1, Semaphore::MAX_PERMITS));
        Ok(Tls { config, clock, state, handshakes })
    }

    /// Why the newest files are not in use, if they are not.
    pub fn problem(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Does the handshake of an accepted connection.
    ///
    /// # Errors
    /// When it fails or takes too long; the connection is closed then.
    pub async fn accept(&self, stream: TcpStream) -> Result<Stream, HandshakeError> {
        let acceptor = TlsAcceptor::from(self.server());
        let handshake = async {
            // Held for the handshake alone.
            let _permit = self.handshakes.acquire().await;
            acceptor.accept(stream).await
        };
        match tokio::time::timeout(self.config.handshake_max, handshake).await {
            Ok(Ok(stream)) => Ok(Stream::from(stream)),
            Ok(Err(cause)) => Err(HandshakeError::Failed(cause)),
            Err(_) => Err(HandshakeError::TimedOut(self.config.handshake_max)),
        }
    }

    /// What is in force now.
    fn server(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.steady();
        if now.since(state.looked) >= LOOK_EVERY {
            state.looked = now;
            let seen: Vec<Seen> = self.config.files().map(see).collect();
            if seen != state.seen {
                match load(&self.config) {
                    Ok(server) => (state.server, state.problem) = (Arc::new(server), None),
                    Err(problem) => state.problem = Some(problem.to_string()),
                }
                state.seen = seen;
            }
        }
        Arc::clone(&state.server)
    }
}

fn see(file: &Path) -> Seen {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(file).ok()?;
    Some((facts.modified().ok()?, facts.len(), facts.ino()))
}

fn load(config: &TlsConfig) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |cause: String| TlsError::Unusable { file: config.certificates.clone(), cause };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable(cause.to_string()))?;
    let builder = match &config.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let file = &clients.authorities;
            let content = |cause: String| {
                let (file, what) = (file.clone(), "authority's certificate");
                TlsError::Content { file, what, cause }
            };
            let mut roots = RootCertStore::empty();
            for authority in certificates(file, "authority's certificate")? {
                roots.add(authority).map_err(|cause| content(cause.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = match clients.required {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|cause| content(cause.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&config.certificates, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&read(&config.key)?).map_err(|cause| {
        let (file, what) = (config.key.clone(), "private key");
        TlsError::Content { file, what, cause: cause.to_string() }
    })?;
    let server = builder.with_single_cert(chain, key);
    let mut server = server.map_err(|cause| unusable(cause.to_string()))?;
    server.alpn_protocols.clone_from(&config.protocols);
    Ok(server)
}

fn certificates(file: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content =
        |cause: &str| TlsError::Content { file: file.to_owned(), what, cause: cause.to_owned() };
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|cause| content(&cause.to_string()))?;
    if found.is_empty() { Err(content("no section of that kind")) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |cause| TlsError::File { file: file.to_owned(), cause };
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!("{length} bytes, {FILE_BYTES_MAX} at most"))));
    }
    std::fs::read(file).map_err(failed)
}

#[cfg(test)]
mod tests;
