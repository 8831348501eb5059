//! Dockerfiles: their language, the stages and the graph that they describe, and the checks of how they are written.
//!
//! Strings in, data out. Nothing here opens a file, asks a registry or runs a process: [`request`] has the traits of those who do.
//!
//! - [`dockerfile`] reads a text into a tree and a list of diagnostics; it never fails and never panics.
//! - [`include`] puts files in the place of the `INCLUDE`s that name them.
//! - [`expand`] puts the values of variables into words.
//! - [`ignore`] tells what `.dockerignore` hides, and matches the wildcards of `COPY`.
//! - [`mode`] is what `--chmod` makes of permissions.
//! - [`remote`] tells what addresses of repositories and files mean.
//! - [`stages`] finds out what is built on what, and which variables are known where.
//! - [`lower`] makes the [`graph`] of it: the steps, and the configuration of the image.
//! - [`changes`] applies instructions to a configuration alone: `--change`.
//! - [`check`] finds what should be written otherwise; [`call`] answers what needs no build: `--check`, `--call`.
//! - [`request`] is what a build is asked for, and where it gets what it needs; [`progress`] is what it tells meanwhile; [`output`] is where its
//!   result goes.

pub mod call;
pub mod changes;
pub mod check;
pub mod diagnostic;
pub mod dockerfile;
pub mod expand;
pub mod graph;
pub mod ignore;
pub mod include;
pub mod lower;
pub mod mode;
pub mod output;
pub mod progress;
pub mod remote;
pub mod request;
pub mod stages;
pub mod suggest;
pub mod text;

pub use diagnostic::{Diagnostic, Severity};
pub use dockerfile::{Dockerfile, Parsed, parse, parse_document};
pub use request::{Document, Outcome, Request, Sources};
pub use text::{Position, Source, Span};
