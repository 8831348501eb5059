//! Where containers' output goes besides the file that their supervisors write: the drivers, by Docker's names.
//!
//! ```text
//!   process ──pipe──> supervisor ──> log/json.log (bounded, always)
//!                                        │ read from a cursor that is written down
//!                                        v
//!                                     daemon ──> syslog, gelf, fluentd, journald
//! ```
//! A daemon that is dead delays what is shipped. What is lost is what rotation throws away before it was shipped.

mod address;
mod attributes;
mod cursor;
pub mod entry;
mod names;
mod options;
pub mod pattern;
mod ship;
pub mod sinks;
pub mod tag;
mod tls;

pub use attributes::{attributes, subject};
pub(crate) use options::truth;
pub use options::{Driver, cached, check, check_default, compressed, over_defaults};
pub(crate) use ship::{reach, start};
use sinks::targets;
