//! Tables of text.

use std::fmt::Write as _;

/// Rows of text, laid out for a terminal or as Markdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Columns of one width.
    Terminal,
    /// To paste into a page.
    Markdown,
}

/// Writes a table, and an empty line behind it; every row has as many cells as the head.
pub fn table(layout: Layout, head: &[&str], rows: &[Vec<String>], out: &mut String) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| -> String {
        let padded = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"));
        match layout {
            Layout::Terminal => padded.collect::<Vec<_>>().join("  "),
            Layout::Markdown => format!("| {} |", padded.collect::<Vec<_>>().join(" | ")),
        }
    };
    let _ = writeln!(out, "{}", line(&mut head.iter().copied()));
    if layout == Layout::Markdown {
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width - 1)).collect();
        let _ = writeln!(out, "|-{}:|", rule.join(":|-"));
    }
    for row in rows {
        let _ = writeln!(out, "{}", line(&mut row.iter().map(String::as_str)));
    }
    out.push('\n');
}
