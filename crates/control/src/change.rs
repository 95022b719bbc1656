//! What makes a new release: a definition, or what was prepared for it, that differs.

use crate::record::Release;

/// What differs in a few words; `None` when the release can stay.
pub(crate) fn against(
    release: &Release,
    definition: &spec::Service,
    prepared: &serde_json::Value,
) -> Option<String> {
    let said = differs(&release.definition, definition);
    match said {
        None if release.prepared != *prepared => Some("contents".to_owned()),
        said => said,
    }
}

fn differs(old: &spec::Service, new: &spec::Service) -> Option<String> {
    // Until `spec::diff` is there: everything but what scales, labels or places.
    let plain = |service: &spec::Service| {
        let mut plain = service.clone();
        plain.place = old.place.clone();
        plain.replicas = 0;
        plain.labels.clear();
        plain.ports.iter_mut().for_each(|p| p.place = old.place.clone());
        plain.volumes.iter_mut().for_each(|v| v.place = old.place.clone());
        plain.depends_on.iter_mut().for_each(|d| d.place = old.place.clone());
        plain.build.iter_mut().for_each(|b| b.place = old.place.clone());
        plain
    };
    (plain(old) != plain(new)).then(|| "definition".to_owned())
}
