//! Commands in running containers.

use api::exec::{CreateRequest, CreateResponse, Inspect, StartRequest};

use crate::containers::Attachment;
use crate::{Error, Result};

/// The commands in running containers.
#[derive(Debug)]
pub struct Execs {}

/// What came of a start.
#[derive(Debug)]
pub enum Started {
    /// It runs, and nobody is attached.
    Detached,
    /// It runs (or will, once the stream is taken), and this is attached to it.
    Attached(Attachment),
}

fn missing<T>(what: &str) -> Result<T> {
    Err(Error::not_implemented(format!("{what} is not available yet")))
}

impl Execs {
    /// Makes a command ready in the container of that name or id.
    pub async fn create(&self, _container: &str, _body: CreateRequest) -> Result<CreateResponse> {
        missing("exec create")
    }

    /// Starts it.
    pub async fn start(&self, _id: &str, _body: StartRequest) -> Result<Started> {
        missing("exec start")
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, _id: &str, _height: u32, _width: u32) -> Result<()> {
        missing("exec resize")
    }

    /// All about it.
    pub async fn inspect(&self, _id: &str) -> Result<Inspect> {
        missing("exec inspect")
    }
}
