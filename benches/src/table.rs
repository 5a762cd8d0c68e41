//! Columns for people.

/// Lines of cells: the first column to the left, the others to the right.
#[must_use]
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Three significant digits, and no more places than they need.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_on_the_right_and_names_on_the_left() {
        let lines = [["", "kpps"], ["a", "1"], ["bcd", "12.5"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(aligned(&lines), "     kpps\na       1\nbcd  12.5\n");
    }

    #[test]
    fn three_digits_are_enough() {
        assert_eq!([1234.4, 99.96, 12.34, 9.999, 0.1234, 0.0].map(number), ["1234", "100", "12.3", "10.0", "0.123", "0.000"]);
    }
}
