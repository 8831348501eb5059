//! The client's side: a session that answers what a build asks for, and a build that is followed to its end.
//!
//! [`Session::serve`] and [`solve`] each go on over a connection of its own, which somebody else has opened and upgraded.

mod agents;
mod directory;
mod engine;
mod files;
mod follow;
mod passwords;
mod secrets;
mod session;
mod solve;
mod stores;
mod takes;
mod uploads;

pub use crate::place::{Place, places};
pub use agents::Agents;
pub use bollard_buildkit_proto::google::protobuf::Timestamp;
pub use bollard_buildkit_proto::moby::buildkit::v1 as api;
pub use bollard_buildkit_proto::pb;
pub use directory::Directory;
pub use engine::{Answer, Engine};
pub use passwords::{Password, Passwords};
pub use secrets::{Secret, Secrets};
pub use session::{Answers, Session};
pub use solve::{Ended, name, solve};
pub use stores::Stores;
pub use takes::{Taker, Takers};
pub use tonic::Status;
pub use uploads::{Upload, Uploads};
