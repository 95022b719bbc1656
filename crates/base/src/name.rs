//! Names of services and instances, checked once where they enter.
//!
//! Not here: names of parts, topics or keys; those belong to their own crates.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    /// What was given.
    pub name: String,
    /// What a name must be.
    pub rule: &'static str,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a valid name: {}", self.name, self.rule)
    }
}

impl std::error::Error for NameError {}

const SERVICE_RULE: &str =
    "1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit";

/// What other code calls by name; unique in its app. The Compose rule for service names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(std::sync::Arc<str>);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = NameError;

    fn try_from(name: String) -> Result<ServiceName, NameError> {
        name.parse()
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<ServiceName, NameError> {
        let ok = (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && name.as_bytes()[0].is_ascii_alphanumeric();
        if !ok {
            return Err(NameError { name: name.to_owned(), rule: SERVICE_RULE });
        }
        Ok(ServiceName(name.into()))
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One running copy of a service: `web.2` is the second slot of `web`.
///
/// Unique among the instances that exist at one time; a restart keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    service: ServiceName,
    slot: u32,
}

impl InstanceId {
    /// The instance of `service` in `slot`, counted from 1.
    pub fn new(service: ServiceName, slot: u32) -> InstanceId {
        InstanceId { service, slot }
    }

    /// The service that it is a copy of.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its slot, counted from 1.
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.service, self.slot))
    }
}

impl FromStr for InstanceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<InstanceId, NameError> {
        let bad = || NameError { name: text.to_owned(), rule: "SERVICE.SLOT, as in web.2" };
        let (service, slot) = text.rsplit_once('.').ok_or_else(bad)?;
        let canonical = !slot.starts_with(['0', '+']);
        let slot = slot.parse().ok().filter(|_| canonical).ok_or_else(bad)?;
        Ok(InstanceId { service: service.parse()?, slot })
    }
}

impl TryFrom<String> for InstanceId {
    type Error = NameError;

    fn try_from(text: String) -> Result<InstanceId, NameError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_follow_the_rule() {
        for good in ["web", "a", "api-v2", "my_db", "x.y", "9lives"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        for bad in ["", "-web", ".x", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn instance_ids_read_back_as_written() {
        let id = InstanceId::new("my.web".parse().unwrap(), 12);
        assert_eq!(id.to_string(), "my.web.12");
        assert_eq!("my.web.12".parse::<InstanceId>().unwrap(), id);
        for bad in ["web", "web.", "web.0", "web.01", "web.+1", ".1", "web.x"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }
}
