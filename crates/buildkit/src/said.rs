//! What clients say, read without doing any of it: for those who try what strangers may send.

use std::collections::HashMap;

use hyper::HeaderMap;
use tonic::metadata::MetadataMap;

use crate::error::Result;
use crate::filesync::Ask;
use crate::options::Options;
use crate::session::Introduction;

/// Reads what the gateway's `Solve` asks of a frontend.
///
/// # Errors
/// It is wrong, or asks for what there is not.
pub fn frontend(name: &str, options: &HashMap<String, String>) -> Result<build::Request> {
    Options::read(name, options).map(|options| options.request)
}

/// Reads the headers with which a session begins.
///
/// # Errors
/// They are wrong.
pub fn introduction(headers: &HeaderMap) -> Result<Introduction> {
    Introduction::read(headers)
}

/// Reads the headers by which files are asked for.
///
/// # Errors
/// They are wrong.
pub fn ask(headers: HeaderMap) -> Result<Ask> {
    Ask::read(&MetadataMap::from_headers(headers))
}
