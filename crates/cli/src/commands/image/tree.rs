//! `images --tree`: every image with its platforms.

use std::cmp::Reverse;

use api::image::Summary;

use crate::terminal;
use crate::units::{short_id, size_with};

/// Columns where there is no terminal.
const WIDTH: usize = 80;
/// Between columns.
const GAP: usize = 3;
/// A column of names that is narrower says nothing: then the last of the others goes.
const NAME_WIDTH_MIN: usize = 10;

const WARNING: &str =
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";

/// The columns after the name, and how wide they are.
const COLUMNS: [(&str, usize); 4] = [("ID", 12), ("DISK USAGE", 10), ("CONTENT SIZE", 12), ("EXTRA", 5)];

/// Escapes of a terminal.
struct Paint(bool);

impl Paint {
    fn with(&self, codes: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("{codes}{text}\x1b[0m") } else { text.to_owned() }
    }

    fn title(&self, text: &str) -> String {
        self.with("\x1b[39m\x1b[1m", text)
    }

    fn name(&self, text: &str) -> String {
        self.with("\x1b[34m\x1b[1m", text)
    }

    fn plain(&self, text: &str) -> String {
        self.with("\x1b[39m", text)
    }

    fn faint(&self, text: &str) -> String {
        self.with("\x1b[39m\x1b[2m", text)
    }
}

/// One line of the tree.
struct Line {
    name: String,
    cells: [String; 4],
    /// An image, a platform of one, or a platform that is not here.
    top: bool,
    here: bool,
}

/// An image: names that stand alone, its own line, its platforms.
struct Node {
    names: Vec<String>,
    lines: Vec<Line>,
}

/// The images as a tree.
pub(super) fn render(images: Vec<Summary>) -> String {
    let coloured = terminal::colour();
    let width = terminal::width().unwrap_or(WIDTH);
    draw(images, width, &Paint(coloured))
}

fn draw(mut images: Vec<Summary>, width: usize, paint: &Paint) -> String {
    images.sort_by_key(|image| Reverse(image.created));
    let nodes: Vec<Node> = images.iter().map(node).collect();
    let (columns, name_width) = columns(&nodes, width);
    let mut text = format!("{}\n", paint.with("\x1b[93m", WARNING));
    let legend = "Info ->  U In Use ";
    let shown = if paint.0 {
        "\x1b[96mInfo → \x1b[0m \x1b[38;5;0m\x1b[48;5;14m U \x1b[0m In Use".to_owned()
    } else {
        legend.to_owned()
    };
    text.push_str(&format!("{}{shown}\n\n", " ".repeat(width.saturating_sub(legend.len()))));
    let titles = COLUMNS[..columns].iter().map(|(title, width)| (paint.title(title), title.len(), *width));
    push(
        &mut text,
        &paint.title("IMAGE"),
        5,
        name_width,
        titles.map(|(title, length, width)| (title, length, width, false)),
    );
    let spaced = nodes.iter().any(|node| node.lines.len() > 1);
    for node in &nodes {
        for name in &node.names {
            text.push_str(&format!("{}\n", paint.name(name)));
        }
        for line in &node.lines {
            let name = cut(&line.name, name_width);
            let length = name.chars().count();
            let look = |text: &str| if line.here { paint.plain(text) } else { paint.faint(text) };
            let name = if line.top { paint.name(&name) } else { look(&name) };
            let cells =
                line.cells[..columns].iter().zip(COLUMNS).enumerate().map(|(at, (cell, (_, width)))| {
                    // The id and what else there is to say stand left, numbers right.
                    (look(cell), cell.chars().count(), width, (1..=2).contains(&at))
                });
            push(&mut text, &name, length, name_width, cells);
        }
        if spaced {
            text.push('\n');
        }
    }
    text
}

/// Adds a line: each cell as it is written, how wide that looks, the width of its column, and whether it stands right.
fn push(
    text: &mut String,
    name: &str,
    length: usize,
    name_width: usize,
    cells: impl Iterator<Item = (String, usize, usize, bool)>,
) {
    text.push_str(name);
    text.push_str(&" ".repeat(name_width.saturating_sub(length)));
    let cells: Vec<_> = cells.collect();
    let last = cells.len().saturating_sub(1);
    for (at, (cell, length, width, right)) in cells.into_iter().enumerate() {
        let pad = " ".repeat(width.saturating_sub(length));
        text.push_str(&" ".repeat(GAP));
        if right {
            text.push_str(&pad);
            text.push_str(&cell);
        } else {
            text.push_str(&cell);
            // Titles end where they end; what is below the last of them is as wide as the column.
            if at < last || !cell.contains("EXTRA") {
                text.push_str(&pad);
            }
        }
    }
    text.push('\n');
}

/// How many columns there is room for, and how wide the names may be.
fn columns(nodes: &[Node], width: usize) -> (usize, usize) {
    // As Docker counts: in bytes, lines of a tree have more of them than columns.
    let names =
        nodes.iter().flat_map(|node| node.names.iter().chain(node.lines.iter().map(|line| &line.name)));
    let wanted = names.map(String::len).max().unwrap_or(0).max("IMAGE".len());
    let mut count = COLUMNS.len();
    loop {
        let others: usize = COLUMNS[..count].iter().map(|(_, width)| width + GAP).sum();
        let room = width.saturating_sub(others);
        if room >= NAME_WIDTH_MIN || count == 0 {
            return (count, wanted.min(room));
        }
        count -= 1;
    }
}

fn cut(text: &str, width: usize) -> String {
    crate::units::ellipsis(text, width.max(1))
}

fn node(image: &Summary) -> Node {
    let mut names: Vec<String> =
        image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>").cloned().collect();
    // The longest at first: the shortest stands in the image's own line.
    names.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let last = names.pop().unwrap_or_else(|| "<untagged>".to_owned());
    let platforms: Vec<_> = image
        .manifests
        .iter()
        .filter(|manifest| manifest.kind == "image")
        .map(|manifest| (manifest, manifest.image_data.clone().unwrap_or_default()))
        .collect();
    let content: i64 = platforms.iter().map(|(manifest, _)| manifest.size.content).sum();
    let used = image.containers > 0 || platforms.iter().any(|(_, data)| !data.containers.is_empty());
    let cells = |id: &str, total: i64, content: i64, used: bool| {
        let mark = if used { "U" } else { "" };
        [short_id(id).to_owned(), size_with(total, 3), size_with(content, 3), mark.to_owned()]
    };
    let top = Line { name: last, cells: cells(&image.id, image.size, content, used), top: true, here: true };
    let count = platforms.len();
    let children = platforms.iter().enumerate().map(|(at, (manifest, data))| {
        let branch = if at + 1 == count { "└─" } else { "├─" };
        let (os, architecture) = (&data.platform.os, &data.platform.architecture);
        let variant = match data.platform.variant.as_str() {
            "" => String::new(),
            variant => format!("/{variant}"),
        };
        Line {
            name: format!("{branch} {os}/{architecture}{variant}"),
            cells: cells(
                &manifest.id,
                manifest.size.total,
                manifest.size.content,
                !data.containers.is_empty(),
            ),
            top: false,
            here: manifest.available,
        }
    });
    let lines = std::iter::once(top).chain(children).collect();
    Node { names, lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::image::{ImageData, ManifestSize, ManifestSummary, Platform};

    fn image(tags: &[&str]) -> Summary {
        let manifest = |id: &str, architecture: &str, here: bool| ManifestSummary {
            id: format!("sha256:{}", id.repeat(64)),
            available: here,
            kind: "image".into(),
            size: if here { ManifestSize { total: 7442, content: 3346 } } else { ManifestSize::default() },
            image_data: Some(ImageData {
                platform: Platform {
                    os: "linux".into(),
                    architecture: architecture.into(),
                    ..Default::default()
                },
                containers: if here { vec!["c".into()] } else { Vec::new() },
                ..Default::default()
            }),
            ..Default::default()
        };
        Summary {
            id: format!("sha256:{}", "9".repeat(64)),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size: 7933,
            manifests: vec![manifest("a", "amd64", true), manifest("c", "arm64", false)],
            ..Default::default()
        }
    }

    #[test]
    fn as_docker_draws_it() {
        let legend = format!("{:>80}", "Info ->  U In Use ");
        let expected = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.\n\
            LEGEND\n\
            \n\
            IMAGE                           ID             DISK USAGE   CONTENT SIZE   EXTRA\n\
            localhost:5000/very/long/repository/name/that/goes/on:3\n\
            foo:latest\n\
            zoo:latest\n\
            foo:1                           999999999999       7.93kB         3.35kB   U    \n\
            ├─ linux/amd64                  aaaaaaaaaaaa       7.44kB         3.35kB   U    \n\
            └─ linux/arm64                  cccccccccccc           0B             0B        \n\
            \n";
        let long = "localhost:5000/very/long/repository/name/that/goes/on:3";
        assert_eq!(
            draw(vec![image(&["foo:1", long, "foo:latest", "zoo:latest"])], 80, &Paint(false)),
            expected.replace("LEGEND", &legend)
        );
    }

    #[test]
    fn narrow_terminals_lose_columns() {
        let long = "localhost:5000/very/long/repository/name/that/goes/on:3";
        let drawn = draw(vec![image(&[long])], 60, &Paint(false));
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[3], "IMAGE               ID             DISK USAGE   CONTENT SIZE");
        assert_eq!(lines[4], "localhost:5000/v…   999999999999       7.93kB         3.35kB");
        let drawn = draw(vec![image(&[long])], 40, &Paint(false));
        assert_eq!(drawn.lines().nth(4), Some("localhost:5…   999999999999       7.93kB"));
    }
}
