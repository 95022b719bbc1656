//! A registry in the Prometheus text format, version 0.0.4.
//!
//! Not here: history (Prometheus keeps its own) and parsing.
//!
//! Invariants: each family has one `HELP` and one `TYPE`, directly before its series; buckets are
//! cumulative and `+Inf` equals `_count`. A histogram family whose name ends in `_seconds` records
//! microseconds and is printed in seconds; every other unit is printed as it is recorded. Bounds
//! are edges of the exact buckets, so no count is estimated; they are powers of two for that
//! reason.

use std::fmt::Write;
use std::iter::repeat_n;

use base::metrics::{Handle, HistogramSnapshot, Labels, Registry, bucket_upper};

/// Value of `Content-Type` for what [`write`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Buckets in an octave of `base::metrics::Histogram`.
const OCTAVE: usize = 16;

/// Every series of `registry` as text.
pub fn write(registry: &Registry) -> String {
    let help = registry.help();
    let mut out = String::new();
    let mut family = "";
    for series in registry.series() {
        if series.family != family {
            family = series.family;
            let kind = match series.handle {
                Handle::Counter(_) => "counter",
                Handle::Gauge(_) => "gauge",
                Handle::Histogram(_) => "histogram",
            };
            let help = help.get(family).copied().unwrap_or_default();
            out.push_str("# HELP ");
            out.push_str(family);
            out.push(' ');
            escape(&mut out, help, false);
            put(&mut out, format_args!("\n# TYPE {family} {kind}\n"));
        }
        match &series.handle {
            Handle::Counter(counter) => {
                sample(&mut out, family, "", &series.labels, None);
                put(&mut out, format_args!("{}\n", counter.get()));
            }
            Handle::Gauge(gauge) => {
                sample(&mut out, family, "", &series.labels, None);
                put(&mut out, format_args!("{}\n", gauge.get()));
            }
            Handle::Histogram(histogram) => {
                write_histogram(&mut out, family, &series.labels, &histogram.snapshot());
            }
        }
    }
    out
}

fn write_histogram(out: &mut String, family: &str, labels: &Labels, now: &HistogramSnapshot) {
    let micros = family.ends_with("_seconds");
    let mut counted = 0;
    let mut total = 0u64;
    for at in bounds(micros) {
        total += now.buckets[counted..=at].iter().map(|&n| u64::from(n)).sum::<u64>();
        counted = at + 1;
        let mut bound = String::new();
        number(&mut bound, bucket_upper(at), micros);
        sample(out, family, "_bucket", labels, Some(&bound));
        put(out, format_args!("{total}\n"));
    }
    // The count is that of the buckets: read one by one beside running writers, the histogram's
    // own count may be ahead of them, and a reader would find `+Inf` and `_count` at odds.
    total += now.buckets[counted..].iter().map(|&n| u64::from(n)).sum::<u64>();
    sample(out, family, "_bucket", labels, Some("+Inf"));
    put(out, format_args!("{total}\n"));
    sample(out, family, "_sum", labels, None);
    number(out, now.sum, micros);
    out.push('\n');
    sample(out, family, "_count", labels, None);
    put(out, format_args!("{total}\n"));
}

/// Indexes of the buckets whose upper edges are printed: 128 µs to 34 s an octave apart, or 4 to
/// 4 Gi two octaves apart.
fn bounds(micros: bool) -> impl Iterator<Item = usize> {
    let (first, last, step) = if micros { (7, 25, 1) } else { (2, 30, 2) };
    (first..=last).step_by(step).map(|octave| octave * OCTAVE)
}

/// A recorded value in the unit of its family's name.
fn number(out: &mut String, value: u64, micros: bool) {
    let (whole, fraction) = (value / 1_000_000, value % 1_000_000);
    if !micros {
        put(out, format_args!("{value}"));
    } else if fraction == 0 {
        put(out, format_args!("{whole}"));
    } else {
        let digits = format!("{fraction:06}");
        put(out, format_args!("{whole}.{}", digits.trim_end_matches('0')));
    }
}

/// Everything of a sample's line before its value.
fn sample(out: &mut String, family: &str, suffix: &str, labels: &Labels, bound: Option<&str>) {
    out.push_str(family);
    out.push_str(suffix);
    let each = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let all = each.chain(bound.map(|bound| ("le", bound)));
    let marks = std::iter::once('{').chain(repeat_n(',', labels.len()));
    let mut any = false;
    for (mark, (name, value)) in marks.zip(all) {
        put(out, format_args!("{mark}{name}=\""));
        escape(out, value, true);
        out.push('"');
        any = true;
    }
    out.push_str(if any { "} " } else { " " });
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            _ => out.push(c),
        }
    }
}

fn put(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::metrics::Family;
    use proptest::prelude::*;
    use regex::Regex;
    use std::collections::{BTreeMap, HashSet};

    const SECONDS: Family = Family { name: "took_seconds", help: "How long,\nin \\ all." };
    const BYTES: Family = Family { name: "size_bytes", help: "Size." };
    const HITS: Family = Family { name: "hits_total", help: "Hits." };
    const OPEN: Family = Family { name: "open", help: "Open." };

    /// Sample name and labels as text, with the value: the format's grammar, strictly.
    fn read(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
        let name = "[a-zA-Z_:][a-zA-Z0-9_:]*";
        let value = r#""(?:[^"\\\n]|\\[\\"n])*""#;
        let help = Regex::new(&format!(r"^# HELP ({name}) (?:[^\\\n]|\\[\\n])*$")).unwrap();
        let kind = Regex::new(&format!("^# TYPE ({name}) (counter|gauge|histogram)$")).unwrap();
        let number = r"-?[0-9]+(?:\.[0-9]+)?";
        let label = format!("[a-zA-Z_][a-zA-Z0-9_]*={value}");
        let line = Regex::new(&format!(r"^({name})(?:\{{({label}(?:,{label})*)\}})? ({number})$"))
            .unwrap();
        let pair = Regex::new(&format!("([a-zA-Z_][a-zA-Z0-9_]*)=({value})")).unwrap();
        let (mut seen, mut samples, mut typed) = (HashSet::new(), Vec::new(), None::<String>);
        let mut awaited = None::<String>;
        assert!(text.is_empty() || text.ends_with('\n'));
        for each in text.lines() {
            if let Some(found) = help.captures(each) {
                assert!(seen.insert(found[1].to_owned()), "second HELP: {each}");
                awaited = Some(found[1].to_owned());
            } else if let Some(found) = kind.captures(each) {
                assert_eq!(awaited.take().as_deref(), Some(&found[1]), "TYPE without its HELP");
                typed = Some(found[1].to_owned());
            } else {
                let found = line.captures(each).unwrap_or_else(|| panic!("no sample: {each:?}"));
                assert!(found[1].starts_with(typed.as_deref().unwrap()), "under another family");
                let labels = found.get(2).map_or("", |m| m.as_str());
                let labels = pair.captures_iter(labels).map(|p| {
                    let raw = &p[2][1..p[2].len() - 1];
                    let plain =
                        raw.replace("\\\\", "\0").replace("\\n", "\n").replace("\\\"", "\"");
                    (p[1].to_owned(), plain.replace('\0', "\\"))
                });
                samples.push((found[1].to_owned(), labels.collect(), found[3].parse().unwrap()));
            }
        }
        samples
    }

    #[test]
    fn prints_every_kind() {
        let registry = Registry::default();
        registry.counter(HITS, vec![("to", "a\"b\\c\nd".into())]).add(7);
        registry.counter(HITS, vec![("to", "x".into())]).add(8);
        registry.gauge(OPEN, vec![]).set(-3);
        registry.histogram(BYTES, vec![]).record(5);
        let text = write(&registry);
        assert!(text.contains("# HELP hits_total Hits.\n# TYPE hits_total counter\n"), "{text}");
        assert!(text.contains("hits_total{to=\"a\\\"b\\\\c\\nd\"} 7\n"), "{text}");
        assert!(text.contains("\nopen -3\n"), "{text}");
        assert!(text.contains("size_bytes_bucket{le=\"4\"} 0\n"), "{text}");
        assert!(text.contains("size_bytes_bucket{le=\"16\"} 1\n"), "{text}");
        assert!(text.contains("size_bytes_sum 5\n"), "{text}");
        assert_eq!(read(&text)[0].1["to"], "a\"b\\c\nd");
    }

    #[test]
    fn microseconds_are_printed_as_seconds() {
        let registry = Registry::default();
        let histogram = registry.histogram(SECONDS, vec![("to", "a".into())]);
        histogram.record(128);
        histogram.record(1_500_000);
        let text = write(&registry);
        assert!(text.contains("took_seconds_bucket{to=\"a\",le=\"0.000128\"} 1\n"), "{text}");
        assert!(text.contains("took_seconds_bucket{to=\"a\",le=\"1.048576\"} 1\n"), "{text}");
        assert!(text.contains("took_seconds_bucket{to=\"a\",le=\"2.097152\"} 2\n"), "{text}");
        assert!(text.contains("took_seconds_sum{to=\"a\"} 1.500128\n"), "{text}");
    }

    proptest! {
        #[test]
        fn buckets_count_what_was_recorded(
            values in prop::collection::vec(0u64..5_000_000_000, 0..60),
            label in "\\PC{0,8}",
            seconds in any::<bool>(),
        ) {
            let registry = Registry::default();
            let family = if seconds { SECONDS } else { BYTES };
            let histogram = registry.histogram(family, vec![("to", label.clone())]);
            values.iter().for_each(|&v| histogram.record(v));
            let samples = read(&write(&registry));
            let unit = if seconds { 1e6 } else { 1.0 };
            let mut infinite = None;
            for (name, labels, got) in &samples {
                prop_assert_eq!(&labels["to"], &label);
                let want = match labels.get("le").map(String::as_str) {
                    None if name.ends_with("_sum") => values.iter().sum::<u64>() as f64 / unit,
                    None => infinite.unwrap(),
                    Some("+Inf") => {
                        infinite = Some(values.len() as f64);
                        values.len() as f64
                    }
                    Some(le) => {
                        let le: f64 = le.parse().unwrap();
                        values.iter().filter(|&&v| v as f64 / unit <= le + 1e-12).count() as f64
                    }
                };
                let near = (got - want).abs() <= want.abs() * 1e-9;
                prop_assert!(near, "{name} {labels:?}: {got} for {want}");
            }
        }
    }
}
