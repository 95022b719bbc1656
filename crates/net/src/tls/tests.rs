//! Handshakes with a client of the same library, over real sockets.

use std::net::Ipv4Addr;
use std::sync::Arc;

use base::ManualClock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;

fn names() -> Vec<String> {
    vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
}

fn client(
    trusts: &Path,
    versions: &[&'static rustls::SupportedProtocolVersion],
    shows: Option<(&Path, &Path)>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for root in certificates(trusts, "certificate").unwrap() {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(certificates(chain, "certificate").unwrap(), key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// One connection: what the server had of it, after an echo of a few bytes.
async fn meet(tls: &Tls, client: &TlsConnector) -> io::Result<(Option<Subject>, bool)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    let server = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = tls.accept(stream).await.map_err(io::Error::other)?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await?;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        let found = (stream.subject(), stream.is_encrypted());
        stream.shutdown().await?;
        Ok::<_, io::Error>(found)
    };
    let caller = async {
        let stream = TcpStream::connect(addr).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = client.connect(name, stream).await?;
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        assert_eq!(bytes, b"ping");
        Ok::<_, io::Error>(())
    };
    let (found, called) = tokio::join!(server, caller);
    called.and(found)
}

const BOTH: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn both_versions_of_tls_carry_bytes() {
    let folder = TempDir::new().unwrap();
    let made = make_certificate(folder.path(), &names()).unwrap();
    let config = TlsConfig::new(made.certificate.clone(), made.key.clone());
    let tls = Tls::open(config, Arc::new(ManualClock::default())).unwrap();
    for version in BOTH {
        let client = client(&made.certificate, &[version], None);
        let (subject, encrypted) = meet(&tls, &client).await.unwrap();
        assert!(subject.is_none() && encrypted);
    }
    // Made once: the second time the same files are there.
    let before = std::fs::read(&made.key).unwrap();
    assert_eq!(make_certificate(folder.path(), &[]).unwrap(), made);
    assert_eq!(std::fs::read(&made.key).unwrap(), before);
}

/// An authority, and a certificate that it signed for a client.
fn client_certificate(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority");
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "CH");
    params.distinguished_name.push(DnType::OrganizationName, "Clocks, and more");
    params.distinguished_name.push(DnType::CommonName, "alice");
    let signed = params.signed_by(&key, &issuer).unwrap();
    let files = ["authority.pem", "client.pem", "client-key.pem"].map(|name| folder.join(name));
    std::fs::write(&files[0], authority_pem).unwrap();
    std::fs::write(&files[1], signed.pem()).unwrap();
    std::fs::write(&files[2], key.serialize_pem()).unwrap();
    let [authority, certificate, key] = files;
    (authority, certificate, key)
}

#[tokio::test]
async fn clients_are_known_by_their_certificates() {
    let folder = TempDir::new().unwrap();
    let made = make_certificate(folder.path(), &names()).unwrap();
    let (authorities, certificate, key) = client_certificate(folder.path());
    let mut config = TlsConfig::new(made.certificate.clone(), made.key);
    let clients = ClientCertificates { authorities, required: true };
    config.clients = Some(clients.clone());
    let clock = Arc::new(ManualClock::default());
    let strict = Tls::open(config.clone(), clock.clone()).unwrap();
    config.clients = Some(ClientCertificates { required: false, ..clients });
    let lenient = Tls::open(config, clock).unwrap();

    let known = client(&made.certificate, BOTH, Some((&certificate, &key)));
    let (subject, _) = meet(&strict, &known).await.unwrap();
    assert_eq!(subject.unwrap().as_str(), "CN=alice,O=Clocks\\, and more,C=CH");
    let unknown = client(&made.certificate, BOTH, None);
    assert!(meet(&strict, &unknown).await.is_err());
    assert_eq!(meet(&lenient, &unknown).await.unwrap().0, None);

    // Signed by itself, and not by the authority.
    let other = TempDir::new().unwrap();
    let other = make_certificate(other.path(), &names()).map(|made| (made, other)).unwrap();
    let stranger = client(&made.certificate, BOTH, Some((&other.0.certificate, &other.0.key)));
    assert!(meet(&lenient, &stranger).await.is_err());
}

#[tokio::test]
async fn files_that_change_are_read_again_and_bad_ones_are_not_used() {
    let folder = TempDir::new().unwrap();
    let made = make_certificate(folder.path(), &names()).unwrap();
    let old = folder.path().join("old.pem");
    std::fs::copy(&made.certificate, &old).unwrap();
    let clock = Arc::new(ManualClock::default());
    let config = TlsConfig::new(made.certificate.clone(), made.key.clone());
    let tls = Tls::open(config, clock.clone()).unwrap();

    std::fs::write(&made.certificate, "not a certificate").unwrap();
    clock.advance(LOOK_EVERY);
    meet(&tls, &client(&old, BOTH, None)).await.unwrap();
    assert!(tls.problem().unwrap().contains("certificate.pem"), "{:?}", tls.problem());

    std::fs::remove_file(&made.certificate).unwrap();
    make_certificate(folder.path(), &names()).unwrap();
    clock.advance(LOOK_EVERY);
    meet(&tls, &client(&made.certificate, BOTH, None)).await.unwrap();
    assert_eq!(tls.problem(), None);
    assert!(meet(&tls, &client(&old, BOTH, None)).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_used_is_told_at_once() {
    let folder = TempDir::new().unwrap();
    let made = make_certificate(folder.path(), &names()).unwrap();
    let other = make_certificate(&folder.path().join("other"), &names()).unwrap();
    let clock = Arc::new(ManualClock::default());
    let open = |certificate: &Path, key: &Path| {
        let config = TlsConfig::new(certificate.to_owned(), key.to_owned());
        Tls::open(config, clock.clone()).map(|_| ()).unwrap_err().to_string()
    };
    assert!(open(&made.certificate, &other.key).contains("cannot be used"));
    assert!(open(&made.key, &made.key).contains("holds no certificate"));
    assert!(open(&made.certificate, &made.certificate).contains("holds no private key"));
    assert!(open(Path::new("/nowhere"), &made.key).contains("cannot read /nowhere"));
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_let_go() {
    let folder = TempDir::new().unwrap();
    let made = make_certificate(folder.path(), &names()).unwrap();
    let mut config = TlsConfig::new(made.certificate, made.key);
    config.handshakes_max = 1;
    let tls = Tls::open(config, Arc::new(ManualClock::default())).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let silent = TcpStream::connect(addr).await.unwrap();
    let second = TcpStream::connect(addr).await.unwrap();
    let (first_end, _) = listener.accept().await.unwrap();
    let (second_end, _) = listener.accept().await.unwrap();
    // The second waits for the first, and both within their time.
    let (first, second_done) = tokio::join!(tls.accept(first_end), tls.accept(second_end));
    assert!(matches!(first, Err(HandshakeError::TimedOut(_))));
    assert!(matches!(second_done, Err(HandshakeError::TimedOut(_))));
    drop((silent, second));
}

#[tokio::test]
async fn who_does_not_speak_tls_is_refused() {
    let folder = TempDir::new().unwrap();
    let made = make_certificate(folder.path(), &names()).unwrap();
    let config = TlsConfig::new(made.certificate, made.key);
    let tls = Tls::open(config, Arc::new(ManualClock::default())).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut plain = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    plain.write_all(&[0, 0, 0, 10, 0, 18, 0, 3, 0, 0, 0, 1, 0, 0]).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    assert!(matches!(tls.accept(stream).await, Err(HandshakeError::Failed(_))));
}
