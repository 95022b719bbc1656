//! Colour, and making other programs' text safe to show on a terminal.

/// What a piece of text is about; colour only underlines what the words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Good.
    Green,
    /// Look here.
    Yellow,
    /// Bad.
    Red,
    /// On its way.
    Cyan,
    /// Less important.
    Dim,
    /// More important.
    Bold,
    /// One of the ten colours that tell services apart.
    Slot(u8),
}

/// Ten colours of the 256 that stay legible on dark and light.
const SLOTS: [u8; 10] = [39, 208, 71, 170, 178, 44, 168, 99, 107, 131];

/// `text` in `style` when `on`.
pub(crate) fn paint(on: bool, style: Style, text: &str) -> String {
    if !on || text.is_empty() {
        return text.to_owned();
    }
    let code = match style {
        Style::Green => "32",
        Style::Yellow => "33",
        Style::Red => "1;31",
        Style::Cyan => "36",
        Style::Dim => "2",
        Style::Bold => "1",
        Style::Slot(slot) => {
            let color = SLOTS[usize::from(slot) % SLOTS.len()];
            return format!("\x1b[38;5;{color}m{text}\x1b[0m");
        }
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// The colour of a name: always the same one for the same name (FNV-1a).
pub(crate) fn slot(name: &str) -> Style {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    Style::Slot(u8::try_from(hash % 10).unwrap_or_default())
}

/// How many columns `text` takes: its characters, escape sequences aside.
pub(crate) fn columns(text: &str) -> usize {
    clean(text, false).chars().count()
}

/// Cuts `text` to `max` columns, with `…` where something is left out; keeps escapes whole.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if columns(text) <= max {
        return text.to_owned();
    }
    let mut cut = String::with_capacity(text.len());
    let mut room = max.saturating_sub(1);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = escape_length(rest).unwrap_or_else(|| {
            room = room.wrapping_sub(1);
            first.len_utf8()
        });
        if room == usize::MAX {
            break;
        }
        cut.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    if max > 0 {
        cut.push('…');
    }
    if cut.contains('\x1b') {
        cut.push_str("\x1b[0m");
    }
    cut
}

/// Takes out whatever could move the cursor, retitle the terminal or hide text: escape sequences
/// and control characters. Line ends and tabs stay; so do colours when `keep_color`, and then
/// the text ends without any.
pub(crate) fn clean(text: &str, keep_color: bool) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut colored = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match escape_length(rest) {
            Some(length) => {
                let color = rest[..length].ends_with('m') && rest.as_bytes().get(1) == Some(&b'[');
                if keep_color && color {
                    clean.push_str(&rest[..length]);
                    colored = true;
                }
                length
            }
            None => {
                match first {
                    '\n' => clean.push('\n'),
                    '\t' => clean.push_str("    "),
                    _ if first.is_control() => {}
                    _ => clean.push(first),
                }
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    if colored {
        clean.push_str("\x1b[0m");
    }
    clean
}

/// The length in bytes of the escape sequence that `text` begins with.
fn escape_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&0x1b) {
        return None;
    }
    Some(match bytes.get(1) {
        // CSI: parameters, then one final byte.
        Some(b'[') => {
            let body = &bytes[2..];
            let end = body.iter().position(|b| !(0x20..=0x3f).contains(b)).unwrap_or(body.len());
            let final_byte = body.get(end).is_some_and(|b| (0x40..=0x7e).contains(b));
            2 + end + usize::from(final_byte)
        }
        // OSC and the other strings: up to BEL or ST.
        Some(b']' | b'P' | b'_' | b'^' | b'X') => {
            let bell = text.find('\x07').map(|at| at + 1);
            let string_end = text[2..].find("\x1b\\").map(|at| at + 4);
            bell.into_iter().chain(string_end).min().unwrap_or(text.len())
        }
        Some(byte) if byte.is_ascii() && *byte >= 0x20 => 2,
        _ => 1,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_colours_survive_and_only_when_asked() {
        let text = "\x1b]0;title\x07a\x1b[31mred\x1b[2J\x1b[1Ab\rc\u{9b}5\x1b";
        assert_eq!(clean(text, false), "aredbc5");
        assert_eq!(clean(text, true), "a\x1b[31mredbc5\x1b[0m");
        assert_eq!(clean("a\tb\nc", false), "a    b\nc");
        assert_eq!(clean("\x1b]0;x\x1b\\y", true), "y");
    }

    #[test]
    fn cuts_columns_not_escapes() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("\x1b[32mabcdef\x1b[0m", 4), "\x1b[32mabc…\x1b[0m");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn a_name_keeps_its_colour() {
        assert_eq!(slot("web"), slot("web"));
        let slots: std::collections::BTreeSet<u8> =
            ["web", "arena", "scores", "api", "db", "kafka"]
                .into_iter()
                .map(|name| match slot(name) {
                    Style::Slot(slot) => slot,
                    other => panic!("{other:?}"),
                })
                .collect();
        assert!(slots.len() >= 4, "{slots:?}");
        assert!(slots.iter().all(|slot| *slot < 10));
    }

    proptest! {
        #[test]
        fn nothing_gets_through_that_a_terminal_obeys(text in "[\\PC\\x1b\\x07\\x9b\\[\\]m;0-9a-z\r\n\t]*") {
            let plain = clean(&text, false);
            prop_assert!(plain.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert_eq!(clean(&plain, false), plain);
        }

        #[test]
        fn a_cut_fits(text in "(\\x1b\\[3[0-7]m|[a-zäß…]){0,20}", max in 0usize..20) {
            prop_assert!(columns(&cut(&text, max)) <= max.max(columns(&text).min(max)));
        }
    }
}
