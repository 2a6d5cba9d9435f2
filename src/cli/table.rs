//! Plain tables: columns as wide as their widest cell, numbers to the right.

pub(super) use crate::data::harmless;

/// Lays out `rows` under `head`. A column is aligned to the right if its head ends in a blank.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| std::array::from_fn(|column| harmless(&row[column]))).collect();
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
    for row in &rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let rows = [["a\u{1b}[31m\nb".to_owned()], ["x\u{202e}y".to_owned()]];
        let right = "name\na\\u{1b}[31m\\nb\nx\\u{202e}y\n";
        assert_eq!(super::table(["name"], &rows), right, "spelt out, a line a row");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1.5".to_owned()], ["longer".to_owned(), "20".to_owned()]];
        assert_eq!(super::table(["name", "n "], &rows), "name      n\na       1.5\nlonger   20\n", "aligned");
    }
}
