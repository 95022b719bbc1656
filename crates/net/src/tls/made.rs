//! A certificate for whoever has none: made once, kept.
//!
//! It signs itself, so clients have to be given it (as `ssl.ca.location` or the like); it is no
//! authority, so nobody can sign others with it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// PEM; what clients are given.
    pub certificate: PathBuf,
    /// PEM; readable by this user alone.
    pub key: PathBuf,
}

/// Makes `certificate.pem` and `key.pem` in a folder, for these names and addresses; what is there
/// already is left as it is.
///
/// # Errors
/// When the folder cannot be written, or a name cannot stand in a certificate.
pub fn make_certificate(folder: &Path, names: &[String]) -> io::Result<Made> {
    let made = Made { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    if made.certificate.try_exists()? && made.key.try_exists()? {
        return Ok(made);
    }
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let named = |name: &String| match name.parse::<IpAddr>() {
        Ok(ip) => Ok(rcgen::SanType::IpAddress(ip)),
        Err(_) => name.as_str().try_into().map(rcgen::SanType::DnsName),
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        names.iter().map(named).collect::<Result<_, _>>().map_err(io::Error::other)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common = names.first().map_or("mainspring", String::as_str);
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    std::fs::create_dir_all(folder)?;
    // The key first: whoever finds the certificate finds the key.
    write(&made.key, key.serialize_pem().as_bytes(), 0o600)?;
    write(&made.certificate, certificate.pem().as_bytes(), 0o644)?;
    File::open(folder)?.sync_all()?;
    Ok(made)
}

fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    // What a crash left might have another mode.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}
