//! Columns, aligned as Docker's are: at least ten wide, three spaces apart.

/// The least width of a column, its padding included (Docker asks its table writer for the same).
const WIDTH_MIN: usize = 10;
/// Spaces after the widest cell.
const PADDING: usize = 3;

/// Aligns tab-separated cells. As in Go's `tabwriter`, a column is a block of neighbouring lines that have a
/// cell there, and the last cell of a line belongs to no column.
#[must_use]
pub fn align(text: &str) -> String {
    align_with(text, WIDTH_MIN, PADDING)
}

/// The same with other measures.
#[must_use]
pub fn align_with(text: &str, width_min: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> =
        lines.iter().map(|cells| vec![0; cells.len().saturating_sub(1)]).collect();
    let deepest = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..deepest {
        let mut start = 0;
        while start < lines.len() {
            if widths[start].len() <= column {
                start += 1;
                continue;
            }
            let end = (start..lines.len()).find(|&at| widths[at].len() <= column).unwrap_or(lines.len());
            let widest =
                lines[start..end].iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
            for line in &mut widths[start..end] {
                line[column] = (widest + padding).max(width_min);
            }
            start = end;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (at, cells) in lines.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths[at].get(column) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_docker_makes_them() {
        let text = "CONTAINER ID\tIMAGE\tNAMES\n9a9ee115f3e4\tbb\tc1\n";
        assert_eq!(align(text), "CONTAINER ID   IMAGE     NAMES\n9a9ee115f3e4   bb        c1\n");
    }

    #[test]
    fn a_line_with_fewer_cells_ends_a_column() {
        assert_eq!(align_with("aaaa\tb\nplain\nc\td\n", 0, 1), "aaaa b\nplain\nc d\n");
    }

    #[test]
    fn width_is_counted_in_characters() {
        assert_eq!(align_with("äöü\tx\na\ty\n", 0, 1), "äöü x\na   y\n");
    }
}
