//! Plain tables: columns as wide as their widest cell, numbers to the right.

/// Lays out `rows` under `head`. A column is aligned to the right if its head ends in a blank.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].trim_end().chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut row = String::new();
        for column in 0..N {
            let pad = " ".repeat(widths[column].saturating_sub(cells[column].chars().count()));
            let right = head[column].ends_with(' ');
            let cell = if right { format!("{pad}{}", cells[column]) } else { format!("{}{pad}", cells[column]) };
            row.push_str(&cell);
            row.push_str("  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(head.map(str::trim_end));
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1.5".to_owned()], ["longer".to_owned(), "20".to_owned()]];
        assert_eq!(super::table(["name", "n "], &rows), "name      n\na       1.5\nlonger   20\n", "aligned");
    }
}
