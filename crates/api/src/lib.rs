//! The Docker Engine API as data: the newest types, version rules and stream framings.
//!
//! Types carry Docker's JSON names. Reading is lenient, as Go's decoder is: a missing field and a `null` both
//! mean the default. Writing gives what Docker's own clients expect, `null` where Go has a nil list and nothing
//! where the field is `omitempty`.

mod null;
#[macro_use]
mod record;

pub mod check;
pub mod container;
pub mod detach;
pub mod duration;
pub mod error;
pub mod event;
pub mod exec;
pub mod filter;
pub mod image;
pub mod network;
pub mod reach;
pub mod secret;
pub mod stream;
pub mod system;
pub mod timestamp;
pub mod version;
pub mod volume;

pub use error::Error;
pub use filter::Filters;
pub use version::ApiVersion;
