//! The status below the logs of `ms up`: services with their digits, and the keys. Pure.

use console::wire::{LogLine, Overview};

use super::progress::chosen;
use super::show::{health_mark, health_word, rate, state_style};
use super::style::{Style, clean, paint};

/// Which lines the person wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Only this service.
    pub(crate) solo: Option<String>,
    /// Only lines with this text, whatever its case.
    pub(crate) filter: Option<String>,
    /// A filter that is being typed.
    pub(crate) typing: Option<Vec<u8>>,
}

impl View {
    /// Whether this line is to be seen.
    pub(crate) fn shows(&self, line: &LogLine) -> bool {
        let solo = self.solo.as_deref().is_none_or(|s| line.instance.service().as_str() == s);
        let text = || line.text.to_lowercase();
        solo && self.filter.as_ref().is_none_or(|filter| text().contains(&filter.to_lowercase()))
    }
}

/// The rows of the status.
pub(crate) fn rows(overview: &Overview, names: &[String], view: &View, color: bool) -> Vec<String> {
    let dim = |text: &str| paint(color, Style::Dim, text);
    let mut first = String::new();
    let services = chosen(overview, names);
    for (at, name) in names.iter().enumerate() {
        let Some(service) = services.iter().find(|s| s.name.as_str() == name) else { continue };
        let style = state_style(health_word(service.health));
        let digit = if at < 9 { format!("{} ", at + 1) } else { String::new() };
        let shown = view.solo.as_ref().is_none_or(|solo| solo == name);
        let name = if shown { paint(color, Style::Bold, name) } else { dim(name) };
        let mark = paint(color, style, health_mark(service.health));
        first.push_str(&format!("{}{name} {mark}  ", dim(&digit)));
    }
    let total: f64 = services.iter().map(|s| s.traffic.requests_per_second).sum();
    first.push_str(&dim(&format!("{} req/s", rate(total))));
    let second = match view {
        View { typing: Some(typed), .. } => {
            let typed = clean(&String::from_utf8_lossy(typed), false);
            format!("show only lines with: {typed}_  {}", dim("Enter, Esc"))
        }
        View { filter, .. } => {
            let keys = dim("d detach  1-9 only one  / filter  o console  q stop");
            let filter =
                filter.as_ref().map(|f| format!("/{}  {}  ", clean(f, false), dim("Esc all")));
            format!("{}{keys}", filter.unwrap_or_default())
        }
    };
    vec![first, second]
}

#[cfg(test)]
mod tests {
    use base::UnixNanos;

    use super::super::testing::{failed, overview};
    use super::*;

    #[test]
    fn names_services_digits_and_keys() {
        let mut overview = overview();
        overview.services.push(failed("jobs"));
        let names = ["arena".to_owned(), "jobs".to_owned()];
        let shown = rows(&overview, &names, &View::default(), false);
        assert_eq!(
            shown,
            [
                "1 arena ✔  2 jobs ✘  12 req/s",
                "d detach  1-9 only one  / filter  o console  q stop"
            ]
        );
        let view = View { typing: Some(b"ab".to_vec()), ..View::default() };
        assert_eq!(
            rows(&overview, &names, &view, false)[1],
            "show only lines with: ab_  Enter, Esc"
        );
        let view = View { filter: Some("boom".to_owned()), ..View::default() };
        assert!(rows(&overview, &names, &view, false)[1].starts_with("/boom  Esc all  d detach"));
    }

    #[test]
    fn shows_what_was_asked_for() {
        let line = LogLine {
            at: UnixNanos(1),
            instance: "web.2".parse().unwrap(),
            stream: "stdout".to_owned(),
            text: "GET /Health".to_owned(),
        };
        let view = |solo: Option<&str>, filter: Option<&str>| View {
            solo: solo.map(str::to_owned),
            filter: filter.map(str::to_owned),
            typing: None,
        };
        for (view, expected) in [
            (view(None, None), true),
            (view(Some("web"), Some("health")), true),
            (view(Some("we"), None), false),
            (view(None, Some("POST")), false),
        ] {
            assert_eq!(view.shows(&line), expected, "{view:?}");
        }
    }
}
