//! What the OCI runtime specification says, held against any runtime by its command line.
//!
//! Outside is a [`Bundle`], which drives the [`Runtime`] under test as an engine would; inside is the `probe`, which reports its
//! world as JSON. A test states what the configuration asks for, and compares. [`judge`] runs it with each runtime under test, and
//! holds it to the table of what is [`known`] not to hold.

mod bundle;
pub mod cgroup;
pub mod engine;
pub mod known;
mod runtime;
mod trial;

pub use bundle::{Bundle, Output, Running, accept};
pub use runtime::{Kind, Runtime, probe};
pub use trial::{judge, skip};
