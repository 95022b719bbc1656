//! A folder of logs with anything in its files.

use std::fs;
use std::sync::atomic::AtomicBool;

use super::entry::{Entry, text_of};
use super::{Level, LogFilter, PAGE_LINES_MAX, Stream, search};

/// A log file that is set aside and one that is written to, with a line `%%` between them.
///
/// # Panics
/// When the reader from the end finds other lines than a simple one from the start.
pub fn log_file(bytes: &[u8]) {
    let at = memchr::memmem::find(bytes, b"%%\n");
    let (aside, current) = at.map_or((&[][..], bytes), |at| (&bytes[..at], &bytes[at + 3..]));
    let dir = tempfile::tempdir().expect("the folder for temporary files can be written to");
    let instance = dir.path().join("web.1");
    fs::create_dir(&instance)
        .and_then(|()| fs::write(instance.join("1795321578000000000.log"), aside))
        .and_then(|()| fs::write(instance.join("current.log"), current))
        .expect("a temporary file can be written");
    let filter = LogFilter { limit: PAGE_LINES_MAX, ..LogFilter::default() };
    let page = search::search(dir.path(), &filter, &AtomicBool::new(false));
    let page = page.expect("whatever files hold, they can be read");
    let found = page.lines.into_iter().map(|line| (line.at, line.stream, line.text));
    let found: Vec<_> = found.collect();
    found.iter().for_each(|(_, stream, text)| {
        let _ = (Level::of(text), filter.passes(*stream, text));
    });
    // The reader from the end waits for the beginning of a line over so many entries only.
    if bytes.iter().filter(|&&byte| byte == b'\n').count() < 1000 {
        assert_eq!(found, simply(aside, current));
    }
}

/// The lines in order of their ends; a last one whose parts go on counts as it is.
fn simply(aside: &[u8], current: &[u8]) -> Vec<(base::UnixNanos, Stream, String)> {
    // Of the file that is written to, a last line without its end is not there yet.
    let ended = memchr::memrchr(b'\n', current).map_or(0, |at| at + 1);
    let lines = |bytes| <[u8]>::split(bytes, |&byte: &u8| byte == b'\n');
    let mut found = Vec::new();
    let mut open: [Option<(usize, base::UnixNanos, Vec<u8>)>; 2] = [None, None];
    for (place, line) in lines(aside).chain(lines(&current[..ended])).enumerate() {
        let Some(entry) = Entry::read(line) else { continue };
        let joined = &mut open[usize::from(entry.stream == Stream::Stderr)];
        let mut text = joined.take().map_or_else(Vec::new, |(_, _, text)| text);
        text.extend_from_slice(entry.text);
        match entry.part {
            true => *joined = Some((place, entry.at, text)),
            false => found.push((place, entry.at, entry.stream, text)),
        }
    }
    for (joined, stream) in open.into_iter().zip([Stream::Stdout, Stream::Stderr]) {
        found.extend(joined.map(|(place, at, text)| (place, at, stream, text)));
    }
    found.sort_by_key(|(place, ..)| *place);
    let text = |text: Vec<u8>| text_of(&text).into_owned();
    found.into_iter().map(|(_, at, stream, bytes)| (at, stream, text(bytes))).collect()
}
