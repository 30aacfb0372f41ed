//! Columns of text for people: as wide as they need to be, numbers to the right.

/// Lines of the table, the head first; columns two blanks apart.
pub(super) fn lines(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        !rows.is_empty() && cells.all(|cell| cell == "-" || cell.parse::<f64>().is_ok())
    };
    let columns: Vec<_> = (0..head.len()).map(|at| (width(at), number(at))).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&columns)
            .map(|(cell, (width, number))| match number {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
        let line: Vec<String> = cells.collect();
        line.join("  ").trim_end().to_owned()
    };
    [&head].into_iter().chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn columns_are_as_wide_as_needed_and_numbers_stand_right() {
        let rows = [
            vec!["orders".into(), "6".into()],
            vec!["a".into(), "12".into()],
        ];
        assert_eq!(
            lines(&["TOPIC", "PARTITIONS"], &rows),
            [
                "TOPIC   PARTITIONS",
                "orders           6",
                "a               12"
            ]
        );
    }
}
