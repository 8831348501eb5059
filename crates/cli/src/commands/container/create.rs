//! `create`.

use api::container::{CreateRequest, CreateResponse};
use client::query::Query;
use client::{Body, Method, Request, Upload};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use crate::command::{Arity, Command, Completes, Example};
use crate::commands::image::pull::{self, Pull};
use crate::create::{CREATE_FLAGS, Wanted, socket, wanted};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::progress::To;
use crate::session::Session;

/// `create`.
pub const COMMAND: Command = Command {
    name: "create",
    also: &["container create", "create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    arity: Arity::AtLeast(1),
    interspersed: false,
    flags: CREATE_FLAGS,
    completes: Completes::Images,
    examples: &[Example {
        about: "Create it now, start it later",
        line: "create --name web -it debian bash",
    }],
    ..Command::leaf(|session, parsed| Box::pin(create(session, parsed)))
};

async fn create(session: &Session, parsed: &Parsed) -> Result<()> {
    let mut wanted = wanted(parsed, &session.config).map_err(Error::at_start)?;
    session.line(&container(session, parsed, &mut wanted).await?)
}

/// The file of `--cidfile`, taken back when no container comes of it.
struct IdFile<'a> {
    path: &'a str,
    file: Option<std::fs::File>,
}

impl<'a> IdFile<'a> {
    fn open(path: &'a str) -> Result<Self> {
        if path.is_empty() {
            return Ok(Self { path, file: None });
        }
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
        match opened {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Message(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))),
            Err(source) => {
                Err(Error::File { verb: "failed to create the container ID file", path: path.into(), source })
            }
        }
    }

    fn write(&mut self, id: &str) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.write_all(id.as_bytes()).map_err(|source| Error::File {
            verb: "failed to write the container ID to the file",
            path: self.path.to_owned(),
            source,
        })
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            // It is empty and ours.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// Before this version a hardware address belonged to the container, not to its first network.
const MAC_OF_NETWORK: client::Version = client::Version { major: 1, minor: 44 };

/// Creates a container, with its image pulled where that was asked for; returns its id.
pub async fn container(session: &Session, parsed: &Parsed, wanted: &mut Wanted) -> Result<String> {
    if let Some(mac) = parsed.text("mac-address")
        && session.client()?.version().await? < MAC_OF_NETWORK
    {
        mac.clone_into(&mut wanted.request.config.mac_address);
    }
    let policy = parsed.text("pull").unwrap_or("missing");
    if !matches!(policy, "always" | "missing" | "never" | "") {
        return Err(Error::Message(format!(
            "invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    let injected = if parsed.on("use-api-socket") {
        socket::share(wanted, &session.target()?.endpoint, &session.config)?
    } else {
        None
    };
    let wanted = &*wanted;
    let image = wanted.request.config.image.as_str();
    // An id needs no pull, a name must be one: what is wrong with it is told before anything is asked.
    let reference = pull::named(image)?;
    let mut file = IdFile::open(&wanted.cidfile)?;
    let what =
        Pull { platform: &wanted.platform, to: if parsed.on("quiet") { To::Nothing } else { To::Stderr } };
    if policy == "always"
        && let Some(reference) = &reference
    {
        pull::pull(session, reference, what).await?;
    }
    let created = match post(session, wanted).await {
        Err(client::Error::Status { status: 404, .. }) if policy != "never" && policy != "always" => {
            let Some(reference) = &reference else { return Err(no_such_image(image)) };
            if !parsed.on("quiet") {
                session.note(&format!("Unable to find image '{}' locally", reference.familiar()));
            }
            pull::pull(session, reference, what).await?;
            post(session, wanted).await?
        }
        other => other?,
    };
    for warning in &created.warnings {
        session.note(&format!("WARNING: {warning}"));
    }
    file.write(&created.id)?;
    if let Some(archive) = injected {
        inject(session, &created.id, archive).await?;
    }
    Ok(created.id)
}

/// Puts the user's configuration into a container that has not started.
async fn inject(session: &Session, id: &str, archive: Vec<u8>) -> Result<()> {
    let failed = |err: &dyn std::fmt::Display| {
        Error::Message(format!("injecting docker config.json into container failed: {err}"))
    };
    let upload = Upload::new(std::io::Cursor::new(archive)).map_err(|err| failed(&err))?;
    let request = Request::new(Method::PUT, super::path(id, "/archive"))
        .query(Query::new().pair("path", "/"))
        .body(Body::Archive(upload));
    let client = session.client()?;
    client.send(&request).await.map(drop).map_err(|err| failed(&err))
}

fn no_such_image(image: &str) -> Error {
    client::Error::Status { status: 404, message: format!("No such image: {image}") }.into()
}

async fn post(session: &Session, wanted: &Wanted) -> client::Result<CreateResponse> {
    let client = session.client().map_err(unwrapped)?;
    let query = Query::new().maybe("name", Some(&wanted.name)).maybe("platform", Some(&wanted.platform));
    let body: &CreateRequest = &wanted.request;
    let request = Request::new(Method::POST, "/containers/create").query(query).body(Body::json(body)?);
    client.decoded(&request).await
}

fn unwrapped(err: Error) -> client::Error {
    match err {
        Error::Client(err) => err,
        other => client::Error::Address(other.to_string()),
    }
}
