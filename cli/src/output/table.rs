//! Tables as docker prints them: aligned columns, three spaces between, no lines.

const GAP: usize = 3;

/// The whole table with its final newline. Control characters of cells are written as escapes: a terminal must not obey a
/// container.
pub fn render(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let widths: Vec<usize> = headers
        .iter()
        .enumerate()
        .map(|(at, header)| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).fold(header.chars().count(), usize::max)
        })
        .collect();
    let mut text = String::new();
    push(&mut text, headers, &widths);
    for row in &rows {
        push(&mut text, row, &widths);
    }
    text
}

fn push(text: &mut String, cells: &[impl AsRef<str>], widths: &[usize]) {
    let start = text.len();
    for (cell, width) in cells.iter().zip(widths) {
        let cell = cell.as_ref();
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count().min(*width)));
    }
    let used = text.get(start..).unwrap_or_default().trim_end_matches(' ').len();
    text.truncate(start + used);
    text.push('\n');
}

/// Control characters as escapes, all else as it is.
pub fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|letter| if letter.is_control() { letter.escape_default().collect::<Vec<_>>() } else { vec![letter] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = render(&["NAME", "PORT", "X"], [row(&["a", "1", "x"]), row(&["much longer", "65535", ""])]);
        assert_eq!(text, "NAME          PORT    X\na             1       x\nmuch longer   65535\n");
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(render(&["A", "B"], []), "A   B\n");
    }

    #[test]
    fn a_cell_cannot_command_the_terminal() {
        assert_eq!(render(&["A"], [row(&["\x1b[2Jü\n"])]), "A\n\\u{1b}[2Jü\\n\n");
    }

    #[test]
    fn width_counts_characters() {
        assert_eq!(render(&["A", "B"], [row(&["…é", "1"]), row(&["ab", "2"])]), "A    B\n…é   1\nab   2\n");
    }
}
