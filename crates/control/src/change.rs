//! What makes a new release: a definition, or what was prepared for it, that differs.

use crate::record::Release;

/// What differs in a few words; `None` when the release can stay.
pub(crate) fn against(
    release: &Release,
    definition: &spec::Service,
    prepared: &serde_json::Value,
) -> Option<String> {
    let contents = || (release.prepared != *prepared).then(|| "contents".to_owned());
    spec::diff(&release.definition, definition).or_else(contents)
}
