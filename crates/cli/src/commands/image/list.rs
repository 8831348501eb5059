//! `images`.

use api::image::Summary;
use client::query::Query;
use std::rc::Rc;

use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::{ago, go_time, now, short_id, size, size_with};

/// `image ls`.
pub const COMMAND: Command = Command {
    name: "ls",
    aliases: &["list"],
    also: &["image ls", "image list", "images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    arity: Arity::AtMost(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Show intermediate images too").short('a'),
            switch("digests", "Show digests"),
            filter("Only those that match (dangling=true, label=key=value, …)").short('f'),
            LIST_FORMAT,
            switch("no-trunc", "Do not cut anything short"),
            switch("quiet", "Only show ids").short('q'),
            switch("tree", "Show the platforms of each image, what they occupy and which are in use"),
        ],
    }],
    completes: Completes::Images,
    examples: &[Example {
        about: "Names and sizes",
        line: "images --format 'table {{.Repository}}\\t{{.Size}}'",
    }],
    ..Command::leaf(|session, parsed| Box::pin(list(session, parsed)))
};

/// The titles of the fields.
pub(crate) const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

async fn list(session: &Session, parsed: &Parsed) -> Result<()> {
    let tree = parsed.on("tree");
    for flag in ["quiet", "no-trunc", "digests", "format"] {
        if tree && (parsed.on(flag) || parsed.given(flag)) {
            let shown = if flag == "digests" { "show-digest" } else { flag };
            return Err(Error::Message(format!("--{shown} is not yet supported with --tree")));
        }
    }
    let mut filters = parsed.filters();
    if let Some(name) = parsed.args.first() {
        filters.add("reference", name.as_str());
    }
    let query = Query::new()
        .flag("all", parsed.on("all"))
        .flag("manifests", tree)
        .maybe("filters", (!filters.is_empty()).then(|| filters.to_json()).as_deref());
    let mut images: Vec<Summary> = session.client()?.get("/images/json", query).await?;
    if tree {
        return session.out(super::tree::render(images));
    }
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let quiet = parsed.on("quiet");
    let format = match parsed.text("format") {
        Some(format) => format,
        None if quiet => "",
        None => session.config.text("imagesFormat").unwrap_or_default(),
    };
    let digests = parsed.on("digests");
    let table = if digests {
        "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    } else {
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    };
    let listing = Listing { format, table, quiet: quiet.then_some("{{.ID}}"), titles: TITLES };
    let look =
        Look { full: parsed.on("no-trunc"), digests: digests || format.contains(".Digest"), now: now() };
    let rows =
        images.into_iter().flat_map(|image| rows(image, look)).map(|row| Rc::new(row) as Rc<dyn Record>);
    session.out(listing.render(rows)?)
}

#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) full: bool,
    pub(crate) digests: bool,
    pub(crate) now: i64,
}

/// An image under one of its names.
pub(crate) struct Row {
    image: Rc<Summary>,
    repository: String,
    tag: String,
    digest: String,
    look: Look,
}

const NONE: &str = "<none>";

/// Name and tag of `registry:5000/name:tag`.
fn split_tag(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (text, NONE),
    }
}

/// The one row of an image where what it occupies is told: under the first of its tags.
pub(crate) fn first(image: Summary, look: Look) -> Row {
    let tag = image.repo_tags.first().filter(|tag| *tag != "<none>:<none>");
    let (repository, tag) = tag.map_or((NONE, NONE), |tag| split_tag(tag));
    let (repository, tag) = (repository.to_owned(), tag.to_owned());
    Row { image: Rc::new(image), repository, tag, digest: String::new(), look }
}

/// The rows of an image: one for each tag, and for digests without a tag where digests are shown.
pub(crate) fn rows(image: Summary, look: Look) -> Vec<Row> {
    let image = Rc::new(image);
    let row = |repository: &str, tag: &str, digest: &str| Row {
        image: image.clone(),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        look,
    };
    let tags: Vec<_> =
        image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>").map(|tag| split_tag(tag)).collect();
    let digests: Vec<_> = image
        .repo_digests
        .iter()
        .filter_map(|text| text.split_once('@'))
        .filter(|(name, _)| *name != NONE)
        .collect();
    let mut all = Vec::new();
    for (name, tag) in &tags {
        let mut mine =
            digests.iter().filter(|(other, _)| other == name).map(|(_, digest)| *digest).peekable();
        if !look.digests || mine.peek().is_none() {
            all.push(row(name, tag, NONE));
        } else {
            all.extend(mine.map(|digest| row(name, tag, digest)));
        }
    }
    let untagged: Vec<_> =
        digests.iter().filter(|(name, _)| !tags.iter().any(|(tagged, _)| tagged == name)).collect();
    if tags.is_empty() && !untagged.is_empty() {
        all.extend(untagged.iter().map(|(name, digest)| row(name, NONE, digest)));
    } else if look.digests {
        all.extend(untagged.iter().map(|(name, digest)| row(name, NONE, digest)));
    }
    if all.is_empty() {
        all.push(row(NONE, NONE, NONE));
    }
    all
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*formatter.imageContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "Containers",
            "CreatedAt",
            "CreatedSince",
            "Digest",
            "ID",
            "Repository",
            "SharedSize",
            "Size",
            "Tag",
            "UniqueSize",
            "VirtualSize",
        ]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let image = &self.image;
        let known = |value: i64, text: String| if value == -1 { "N/A".to_owned() } else { text };
        Some(match name {
            "ID" if self.look.full => image.id.as_str().into(),
            "ID" => short_id(&image.id).into(),
            "Repository" => self.repository.as_str().into(),
            "Tag" => self.tag.as_str().into(),
            "Digest" => self.digest.as_str().into(),
            "CreatedSince" => ago(image.created, self.look.now).into(),
            "CreatedAt" => go_time(image.created).into(),
            "Size" => size_with(image.size, 3).into(),
            "VirtualSize" => size(image.size).into(),
            "Containers" => known(image.containers, image.containers.to_string()).into(),
            "SharedSize" => known(image.shared_size, size(image.shared_size)).into(),
            "UniqueSize" => known(image.shared_size, size(image.size - image.shared_size)).into(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_row_for_each_name() {
        let image = |tags: &[&str], digests: &[&str]| Summary {
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            ..Summary::default()
        };
        let shown = |image: Summary, digests: bool| {
            let look = Look { full: false, digests, now: 0 };
            let all = rows(image, look);
            all.iter().map(|row| format!("{} {} {}", row.repository, row.tag, row.digest)).collect::<Vec<_>>()
        };
        assert_eq!(shown(image(&["a:1", "r:5000/b:2"], &[]), false), ["a 1 <none>", "r:5000/b 2 <none>"]);
        assert_eq!(shown(image(&["a:1"], &["a@sha256:x", "b@sha256:y"]), false), ["a 1 <none>"]);
        assert_eq!(
            shown(image(&["a:1"], &["a@sha256:x", "b@sha256:y"]), true),
            ["a 1 sha256:x", "b <none> sha256:y"]
        );
        assert_eq!(shown(image(&[], &["a@sha256:x"]), false), ["a <none> sha256:x"]);
        assert_eq!(shown(image(&["<none>:<none>"], &["<none>@<none>"]), false), ["<none> <none> <none>"]);
    }
}
