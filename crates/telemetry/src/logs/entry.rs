//! The entries of a log file: `2026-11-22T04:26:18.123456789Z stdout F text`. Pure.
//!
//! Invariants: any bytes are read without failing; what is no entry is `None` and is passed over.

use base::UnixNanos;

use super::Stream;
use crate::when;

/// A joined line is cut after this many bytes.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// One entry, as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub at: UnixNanos,
    pub stream: Stream,
    /// The line goes on in the next entry of its stream.
    pub part: bool,
    pub text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads an entry, without its line end.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Entry<'a>> {
        let (time, rest) = cut(bytes)?;
        let (stream, rest) = cut(rest)?;
        let (tag, text) = cut(rest)?;
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // The tag may grow more marks, apart by colons; the first one is this one.
        let part = match tag.split(|&b| b == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        let at = when::rfc3339(std::str::from_utf8(time).ok()?, None)?;
        Some(Entry { at, stream, part, text })
    }
}

fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', bytes.get(..64.min(bytes.len()))?)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// A line's text: at most [`LINE_BYTES_MAX`], without a carriage return at its end.
pub(super) fn text_of(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let mut bytes = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    if let [head @ .., b'\r'] = bytes {
        bytes = head;
    }
    String::from_utf8_lossy(bytes)
}

/// Joins the parts of lines in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    open: [Option<Vec<u8>>; 2],
}

impl Joiner {
    /// Takes an entry and gives the line that it completes, if it does.
    pub(super) fn take<'a>(&'a mut self, entry: &Entry<'a>) -> Option<std::borrow::Cow<'a, [u8]>> {
        let open = &mut self.open[usize::from(entry.stream == Stream::Stderr)];
        if open.is_none() && !entry.part {
            return Some(entry.text.into());
        }
        let joined = open.get_or_insert_default();
        let room = LINE_BYTES_MAX - joined.len();
        joined.extend_from_slice(&entry.text[..entry.text.len().min(room)]);
        if entry.part { None } else { open.take().map(Into::into) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_entries_and_passes_over_the_rest() {
        let entry = Entry::read(b"2026-11-22T04:26:18.123456789Z stderr P some text ").unwrap();
        assert_eq!(entry.at, UnixNanos(1_795_321_578_123_456_789));
        assert_eq!((entry.stream, entry.part), (Stream::Stderr, true));
        assert_eq!(entry.text, b"some text ");
        let empty = Entry::read(b"2026-11-22T04:26:18Z stdout F:x ").unwrap();
        assert_eq!((empty.part, empty.text), (false, &b""[..]));
        for bad in [
            "",
            "x",
            "2026-11-22T04:26:18Z",
            "2026-11-22T04:26:18Z stdout",
            "2026-11-22T04:26:18Z stdout F",
            "2026-11-22T04:26:18 stdout F x",
            "2026-11-22T04:26:18Z stdin F x",
            "2026-11-22T04:26:18Z stdout G x",
        ] {
            assert_eq!(Entry::read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn joins_each_stream_apart_and_cuts() {
        let at = UnixNanos(1);
        let mut joiner = Joiner::default();
        let mut take = |stream, part, text: &[u8]| {
            joiner.take(&Entry { at, stream, part, text }).map(|line| line.into_owned())
        };
        assert_eq!(take(Stream::Stdout, true, b"a"), None);
        assert_eq!(take(Stream::Stderr, false, b"e"), Some(b"e".to_vec()));
        assert_eq!(take(Stream::Stdout, true, b"b"), None);
        assert_eq!(take(Stream::Stdout, false, b"c"), Some(b"abc".to_vec()));
        for _ in 0..80 {
            assert_eq!(take(Stream::Stdout, true, &[b'x'; 16 << 10]), None);
        }
        assert_eq!(take(Stream::Stdout, false, b"").unwrap().len(), LINE_BYTES_MAX);
        assert_eq!(take(Stream::Stdout, false, b"next"), Some(b"next".to_vec()));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::read(&bytes);
            let _ = text_of(&bytes);
        }
    }
}
