//! SCRAM (RFC 5802, RFC 7677), the server's side of one exchange.
//!
//! Not here: where credentials are. Invariants: what is kept of a password cannot be used to log in;
//! an unknown user's exchange looks like a known one's until it fails, at the same step as a wrong
//! password; no byte from a client makes it work longer than a credential's own iterations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Fewest iterations of a credential.
pub const ITERATIONS_MIN: u32 = 4096;
/// Most; each login costs them to the client, and a login with a plain password to the server.
pub const ITERATIONS_MAX: u32 = 16_384;

/// Longest message of a client.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A hash that SCRAM is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    Sha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    Sha512,
}

impl Mechanism {
    /// Both.
    pub const ALL: [Mechanism; 2] = [Mechanism::Sha256, Mechanism::Sha512];

    /// As it is called on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Sha256 => "SCRAM-SHA-256",
            Mechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Bytes of its hash.
    pub fn hash_bytes(self) -> usize {
        match self {
            Mechanism::Sha256 => 32,
            Mechanism::Sha512 => 64,
        }
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        fn of<M: Mac + hmac::digest::KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
            let mac = <M as Mac>::new_from_slice(key);
            let mut mac = mac.expect("a key of HMAC may have any length");
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Mechanism::Sha256 => of::<Hmac<Sha256>>(key, text),
            Mechanism::Sha512 => of::<Hmac<Sha512>>(key, text),
        }
    }

    fn hash(self, text: &[u8]) -> Vec<u8> {
        match self {
            Mechanism::Sha256 => Sha256::digest(text).to_vec(),
            Mechanism::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut out = vec![0; self.hash_bytes()];
        match self {
            Mechanism::Sha256 => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out)
            }
            Mechanism::Sha512 => {
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out)
            }
        }
        out
    }
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    /// How often the password was hashed.
    pub iterations: u32,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Credential {
    /// From a password that was salted and hashed by somebody else.
    pub fn of_salted(
        mechanism: Mechanism,
        salted: &[u8],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Credential {
        let client_key = mechanism.hmac(salted, b"Client Key");
        Credential {
            salt,
            stored_key: mechanism.hash(&client_key),
            server_key: mechanism.hmac(salted, b"Server Key"),
            iterations,
        }
    }

    /// From a password. Takes milliseconds of work.
    pub fn of_password(
        mechanism: Mechanism,
        password: &str,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Credential {
        let salted = mechanism.salted(password.as_bytes(), &salt, iterations);
        Credential::of_salted(mechanism, &salted, salt, iterations)
    }

    /// One that no password fits, the same each time for a user.
    pub fn of_nobody(mechanism: Mechanism, user: &str, secret: &[u8]) -> Credential {
        let made = |what: &str| mechanism.hmac(secret, format!("{what}{user}").as_bytes());
        let mut salt = made("salt");
        salt.truncate(SALT_BYTES);
        let (stored_key, server_key) = (made("stored"), made("server"));
        Credential { salt, stored_key, server_key, iterations: ITERATIONS_MIN }
    }

    /// Whether it is of this password. Takes milliseconds of work.
    pub fn fits(&self, mechanism: Mechanism, password: &str) -> bool {
        let salted = mechanism.salted(password.as_bytes(), &self.salt, self.iterations);
        let client_key = mechanism.hmac(&salted, b"Client Key");
        bool::from(mechanism.hash(&client_key).ct_eq(&self.stored_key))
    }
}

/// Bytes of a salt that is made here.
pub const SALT_BYTES: usize = 16;

/// Why an exchange came to nothing. Clients are told no more than that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is none.
    #[error("the client's {0} message has no such form")]
    Malformed(&'static str),
    /// It wants something that is not offered.
    #[error("{0} is not offered")]
    NotOffered(&'static str),
    /// The proof does not fit.
    #[error("user or password is wrong")]
    Wrong,
}

/// The first message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// Who it says it is.
    pub user: String,
    header: String,
    bare: String,
    nonce: String,
}

impl First {
    /// Reads it.
    ///
    /// # Errors
    /// When it has no such form, or asks for what is not offered.
    pub fn parse(message: &[u8]) -> Result<First, ScramError> {
        let malformed = ScramError::Malformed("first");
        let text = Some(message).filter(|message| message.len() <= MESSAGE_BYTES_MAX);
        let text = text.and_then(|text| std::str::from_utf8(text).ok()).ok_or(malformed)?;
        let (binding, rest) = text.split_once(',').ok_or(malformed)?;
        if binding.starts_with("p=") {
            return Err(ScramError::NotOffered("channel binding"));
        }
        if !matches!(binding, "n" | "y") {
            return Err(malformed);
        }
        let (acts_for, bare) = rest.split_once(',').ok_or(malformed)?;
        let mut parts = bare.split(',');
        let user = parts.next().and_then(|part| part.strip_prefix("n=")).ok_or(malformed)?;
        let user = unescaped(user).filter(|user| !user.is_empty()).ok_or(malformed)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(malformed)?;
        let is_printable = nonce.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
        if nonce.is_empty() || !is_printable {
            return Err(malformed);
        }
        // Extensions: what must be understood and is not, or tokens that nobody gives out here.
        for part in parts {
            match part {
                "tokenauth=true" => return Err(ScramError::NotOffered("delegation tokens")),
                part if part.starts_with("m=") => {
                    return Err(ScramError::NotOffered("an extension"));
                }
                _ => {}
            }
        }
        if !acts_for.is_empty() {
            let acts_for = acts_for.strip_prefix("a=").and_then(unescaped).ok_or(malformed)?;
            if acts_for != user {
                return Err(ScramError::NotOffered("acting for others"));
            }
        }
        let header = text[..text.len() - bare.len()].to_owned();
        Ok(First { user, header, bare: bare.to_owned(), nonce: nonce.to_owned() })
    }

    /// What the server answers, and what it expects then. `random` is guessed by nobody.
    pub fn challenge(
        self,
        mechanism: Mechanism,
        credential: Credential,
        random: &[u8],
    ) -> Exchange {
        let nonce = format!("{}{}", self.nonce, BASE64.encode(random).replace(',', "/"));
        let salt = BASE64.encode(&credential.salt);
        let challenge = format!("r={nonce},s={salt},i={}", credential.iterations);
        Exchange { first: self, mechanism, credential, nonce, challenge }
    }
}

/// An exchange that waits for the client's proof.
#[derive(Clone, Debug)]
pub struct Exchange {
    first: First,
    mechanism: Mechanism,
    credential: Credential,
    nonce: String,
    challenge: String,
}

impl Exchange {
    /// Who the client says it is.
    pub fn user(&self) -> &str {
        &self.first.user
    }

    /// The server's first message.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Checks the proof; the answer is the server's own.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn finish(&self, message: &[u8]) -> Result<String, ScramError> {
        let malformed = ScramError::Malformed("final");
        let text = Some(message).filter(|message| message.len() <= MESSAGE_BYTES_MAX);
        let text = text.and_then(|text| std::str::from_utf8(text).ok()).ok_or(malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed)?;
        let mut parts = without_proof.split(',');
        let header = parts.next().and_then(|part| part.strip_prefix("c=")).ok_or(malformed)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(malformed)?;
        let header = BASE64.decode(header).map_err(|_| malformed)?;
        let proof = BASE64.decode(proof).map_err(|_| malformed)?;
        // librdkafka before 2.6 says its own nonce twice; what the server said is at the end of it.
        if header != self.first.header.as_bytes() || !nonce.ends_with(&self.nonce) {
            return Err(ScramError::Wrong);
        }
        let said = format!("{},{},{without_proof}", self.first.bare, self.challenge);
        let signature = self.mechanism.hmac(&self.credential.stored_key, said.as_bytes());
        if proof.len() != signature.len() {
            return Err(ScramError::Wrong);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let fits = self.mechanism.hash(&client_key).ct_eq(&self.credential.stored_key);
        if !bool::from(fits) {
            return Err(ScramError::Wrong);
        }
        let own = self.mechanism.hmac(&self.credential.server_key, said.as_bytes());
        Ok(format!("v={}", BASE64.encode(own)))
    }
}

/// A name in which commas and equals signs are written out.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = part.split_at_checked(2)?;
        out.push(match sign {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_example_of_rfc_7677() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credential = Credential::of_password(Mechanism::Sha256, "pencil", salt, 4096);
        let first = First::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        let mut exchange = first.challenge(Mechanism::Sha256, credential, b"");
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into();
        exchange.challenge = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", exchange.nonce);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let answer = exchange.finish(last.as_bytes()).unwrap();
        assert_eq!(answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let wrong = last.replace("p=dHzb", "p=eHzb");
        assert_eq!(exchange.finish(wrong.as_bytes()), Err(ScramError::Wrong));
    }

    /// A client's last message, by the other half of the RFC.
    fn prove(mechanism: Mechanism, password: &str, first: &str, challenge: &str) -> String {
        let part = |name: &str| {
            challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap().to_owned()
        };
        let salt = BASE64.decode(part("s=")).unwrap();
        let salted = mechanism.salted(password.as_bytes(), &salt, part("i=").parse().unwrap());
        let client_key = mechanism.hmac(&salted, b"Client Key");
        let (header, bare) = first.split_at(first.find("n=").unwrap());
        let without = format!("c={},r={}", BASE64.encode(header), part("r="));
        let said = format!("{bare},{challenge},{without}");
        let signature = mechanism.hmac(&mechanism.hash(&client_key), said.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        format!("{without},p={}", BASE64.encode(proof))
    }

    #[test]
    fn the_right_password_passes_and_no_other() {
        for mechanism in Mechanism::ALL {
            let credential = Credential::of_password(mechanism, "tick", vec![7; 16], 4096);
            let first = "y,a=a=2Cb,n=a=2Cb,r=abc";
            let exchange = First::parse(first.as_bytes()).unwrap();
            assert_eq!(exchange.user, "a,b");
            let exchange = exchange.challenge(mechanism, credential.clone(), b"random");
            let right = prove(mechanism, "tick", first, exchange.challenge());
            assert!(exchange.finish(right.as_bytes()).unwrap().starts_with("v="));
            let wrong = prove(mechanism, "tock", first, exchange.challenge());
            assert_eq!(exchange.finish(wrong.as_bytes()), Err(ScramError::Wrong));
            assert!(credential.fits(mechanism, "tick") && !credential.fits(mechanism, "tock"));
            let nobody = Credential::of_nobody(mechanism, "a,b", b"secret");
            assert_eq!(nobody, Credential::of_nobody(mechanism, "a,b", b"secret"));
            assert!(!nobody.fits(mechanism, "tick"));
            assert_eq!(nobody.salt.len(), SALT_BYTES);
        }
    }

    #[test]
    fn what_is_not_offered_is_told() {
        let not = |message: &str| First::parse(message.as_bytes()).unwrap_err();
        assert_eq!(not("p=tls-unique,,n=u,r=a"), ScramError::NotOffered("channel binding"));
        assert_eq!(not("n,a=b,n=u,r=a"), ScramError::NotOffered("acting for others"));
        assert_eq!(not("n,,n=u,r=a,tokenauth=true"), ScramError::NotOffered("delegation tokens"));
        assert_eq!(not("n,,n=u=2X,r=a"), ScramError::Malformed("first"));
        assert_eq!(not("n,,n=,r=a"), ScramError::Malformed("first"));
        assert_eq!(not("n,,n=u,r="), ScramError::Malformed("first"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(first in ".{0,40}", last in ".{0,80}") {
            if let Ok(first) = First::parse(first.as_bytes()) {
                let nobody = Credential::of_nobody(Mechanism::Sha256, &first.user, b"s");
                let exchange = first.challenge(Mechanism::Sha256, nobody, b"r");
                prop_assert!(exchange.finish(last.as_bytes()).is_err());
            }
        }
    }
}
