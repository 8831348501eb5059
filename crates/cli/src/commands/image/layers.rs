//! `image layers`.

use api::image::LayerReport;
use client::query::{Query, segment};

use crate::command::{Arity, Command, Completes, Example};
use crate::error::Result;
use crate::flags::{Group, Parsed, switch, text};
use crate::session::Session;
use crate::table;
use crate::units::size;

/// `layers`.
pub const COMMAND: Command = Command {
    name: "layers",
    usage: "[OPTIONS] IMAGE",
    about: "Show what each layer of an image adds, changes, removes and wastes",
    arity: Arity::Exactly(1),
    completes: Completes::Images,
    flags: &[Group {
        title: "",
        flags: &[
            switch("json", "Print as JSON"),
            switch("no-trunc", "Don't truncate output"),
            text("platform", "Platform of the image (os[/arch[/variant]])"),
        ],
    }],
    examples: &[Example { about: "Where the bytes are", line: "image layers web" }],
    ..Command::leaf(|session, parsed| Box::pin(layers(session, parsed)))
};

/// What is shown of the step that made a layer.
const STEP_LENGTH: usize = 45;

async fn layers(session: &Session, parsed: &Parsed) -> Result<()> {
    let path = format!("/corten/images/{}/layers", segment(&parsed.args[0]));
    let query = Query::new().maybe("platform", parsed.text("platform"));
    let client = session.client()?;
    if parsed.on("json") {
        let text = client.get_text(&path, query).await.map_err(super::squash::foreign)?;
        return session.out(text);
    }
    let layers: Vec<LayerReport> = client.get(&path, query).await.map_err(super::squash::foreign)?;
    let mut text = "LAYER\tDIGEST\tSIZE\tUNPACKED\tADDED\tCHANGED\tREMOVED\tWASTED\tCREATED BY\n".to_owned();
    let whole = parsed.on("no-trunc");
    for (number, layer) in layers.iter().enumerate() {
        let digest = if whole { &layer.digest } else { short(&layer.digest) };
        let step = layer.created_by.replace(['\t', '\n'], " ");
        let step: String = match whole || step.chars().count() <= STEP_LENGTH {
            true => step,
            false => step.chars().take(STEP_LENGTH - 1).chain(['…']).collect(),
        };
        text.push_str(&format!(
            "{}\t{digest}\t{}\t{}\t{}\t{}\t{}\t{}\t{step}\n",
            number + 1,
            size(layer.size),
            size(layer.unpacked_size),
            layer.added,
            layer.changed,
            layer.removed,
            size(layer.wasted),
        ));
    }
    session.out(table::align(&text))
}

/// Twelve digits of a digest.
fn short(digest: &str) -> &str {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}
