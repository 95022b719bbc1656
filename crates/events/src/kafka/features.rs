//! Features of the cluster: what clients may rely on beyond single requests.
//!
//! Invariant: what is told as finalized works, and cannot be taken back while the program is the
//! same.

use std::sync::Arc;

use kafka_wire::{RequestHeader, api_versions, update_features};

use super::errors::code;
use super::{Front, Session};

/// One feature.
pub(super) struct Feature {
    name: &'static str,
    /// The level in force, and the lowest that is supported.
    level: i16,
    min: i16,
}

/// Every feature that works. A name goes here when all requests of its level are served.
pub(super) const FEATURES: &[Feature] = &[
    // Consumer groups whose members are told what is theirs.
    Feature { name: "group.version", level: 1, min: 1 },
    // Share groups.
    Feature { name: "share.version", level: 1, min: 1 },
    // Transactions that raise their producer's epoch at each end (KIP-890).
    Feature { name: "transaction.version", level: 2, min: 0 },
];

/// Tells of them.
pub(super) fn tell(response: &mut api_versions::Response) {
    response.finalized_features_epoch = 1;
    response.supported_features = FEATURES
        .iter()
        .map(|feature| api_versions::SupportedFeatureKey {
            name: feature.name.into(),
            min_version: feature.min,
            max_version: feature.level,
        })
        .collect();
    response.finalized_features = FEATURES
        .iter()
        .map(|feature| api_versions::FinalizedFeatureKey {
            name: feature.name.into(),
            max_version_level: feature.level,
            min_version_level: feature.level,
        })
        .collect();
}

/// Levels are those of the program: saying them again is fine, and others are refused.
pub(crate) async fn update(
    _: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: update_features::Request,
) -> update_features::Response {
    use update_features::{FeatureUpdateKey, Response, UpdatableFeatureResult};
    let checked = |update: &FeatureUpdateKey| {
        let known = FEATURES.iter().find(|feature| update.feature == feature.name);
        let (name, wanted) = (&update.feature, update.max_version_level);
        match known {
            Some(feature) if feature.level == wanted => Ok(()),
            Some(feature) => Err(format!(
                "{name} is at level {}, which comes with the program and cannot be {wanted}.",
                feature.level
            )),
            None => Err(format!("{name} is no feature that is supported here.")),
        }
    };
    let mut results = Vec::with_capacity(request.feature_updates.len());
    let mut first = None;
    for update in &request.feature_updates {
        let why = checked(update).err();
        first = first.or_else(|| why.clone());
        results.push(UpdatableFeatureResult {
            feature: update.feature.clone(),
            error_code: if why.is_some() { code::INVALID_UPDATE_VERSION } else { 0 },
            error_message: why.map(Into::into),
        });
    }
    // From version 2 on it is all or none, with one reason.
    match (header.version, first) {
        (2.., Some(why)) => Response {
            error_code: code::INVALID_UPDATE_VERSION,
            error_message: Some(why.into()),
            ..Response::default()
        },
        _ => Response { results, ..Response::default() },
    }
}
