//! Tables without borders: upper-case heads, numbers to the right, cut only for a terminal.

use super::style::{Style, columns, cut, paint};

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its head.
    pub(crate) head: &'static str,
    /// Numbers go to the right.
    pub(crate) right: bool,
}

/// A column of words.
pub(crate) const fn words(head: &'static str) -> Column {
    Column { head, right: false }
}

/// A column of numbers.
pub(crate) const fn numbers(head: &'static str) -> Column {
    Column { head, right: true }
}

/// Spaces between columns.
const GAP: usize = 2;

/// Draws a table; rows have as many cells as there are columns. Columns that are empty in every
/// row are left out. With `width`, lines are cut to it; without, nothing is ever cut.
pub(crate) fn table(
    columns_of: &[Column],
    rows: &[Vec<String>],
    color: bool,
    width: Option<usize>,
) -> String {
    let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
    let shown: Vec<usize> = (0..columns_of.len())
        .filter(|at| rows.is_empty() || rows.iter().any(|row| !cell(row, *at).is_empty()))
        .collect();
    let heads: Vec<String> =
        columns_of.iter().map(|column| paint(color, Style::Dim, column.head)).collect();
    let all = || std::iter::once(&heads).chain(rows);
    let widths: Vec<usize> = shown
        .iter()
        .map(|at| all().map(|row| columns(&cell(row, *at))).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (at, wide) in shown.iter().zip(&widths) {
            let cell = cell(row, *at);
            let pad = " ".repeat(wide - columns(&cell));
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            if columns_of[*at].right {
                line.push_str(&pad);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.push_str(&pad);
            }
        }
        let line = line.trim_end();
        text.push_str(&width.map_or_else(|| line.to_owned(), |width| cut(line, width)));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [words("NAME"), numbers("CPU"), words("EMPTY"), words("WHY")];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row(["web", "0.1", "", ""]),
            row(["\x1b[32mworker\x1b[0m", "12.0", "", "a long reason"]),
        ]
    }

    #[test]
    fn aligns_by_what_is_seen() {
        assert_eq!(
            table(&COLUMNS, &rows(), false, None),
            "NAME     CPU  WHY\n\
             web      0.1\n\
             \x1b[32mworker\x1b[0m  12.0  a long reason\n"
        );
    }

    #[test]
    fn is_cut_only_for_a_terminal() {
        let cut = table(&COLUMNS, &rows(), false, Some(18));
        assert!(cut.lines().all(|line| columns(line) <= 18), "{cut}");
        assert!(cut.contains("12.0  a l…"), "{cut}");
    }
}
