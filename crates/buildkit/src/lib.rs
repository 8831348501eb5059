//! BuildKit's own API, sessions, control and gateway, over byte streams that somebody else accepts.
//!
//! Two connections make a build. By the first the client calls us; by the second, a *session*, we call the client:
//!
//! ```text
//!  client                                                     engine
//!    | POST /grpc, Upgrade: h2c  ---------------------------->  [`serve`]: Control, LLBBridge, Health
//!    | POST /session, Upgrade: h2c, X-Docker-Expose-Session… ->  [`Sessions::serve`]: we are the one who calls
//!    |
//!    | Control.Solve(ref, session, exporters) ---------------->  a job begins, and waits for its result
//!    | Control.Status(ref) ----------------------------------->  what the job tells, until it ends
//!    | LLBBridge.Ping, Solve("dockerfile.v0", options) ------->  the build; `buildkit-controlapi-buildid` names the job
//!    |      <--------------------- FileSync.DiffCopy(dockerfile), then (context): only what has changed is sent
//!    |      <--------------------- Secrets.GetSecret, SSH.ForwardAgent, Auth.Credentials, when a step wants them
//!    | <-- Ref
//!    | LLBBridge.Return(Ref) --------------------------------->  the job has its result, and puts it out
//!    |      <--------------------- FileSend.DiffCopy, Content.Write, for what the client takes itself
//!    | <-- Solve's answer: the image's digest
//! ```
//!
//! How a build is done stands behind [`Builder`]. The client's side of the same is [`client`].

mod agents;
mod attest;
mod builder;
mod cache;
mod cached;
mod caller;
pub mod client;
mod contents;
mod control;
mod error;
mod exporter;
mod filesend;
pub mod filesync;
mod filter;
mod gateway;
mod health;
mod history;
mod jobs;
mod kept;
mod movement;
mod options;
mod place;
mod question;
mod reading;
pub mod said;
mod service;
mod session;
mod sources;
mod status;
mod upload;

pub use builder::{Builder, Built, Cached, Failure, Look, Prune, SharedBuilt, Told, Worker};
pub use cached::Selection;
pub use error::{Error, Result};
pub use kept::{Kept, KeptDirectory};
pub use service::{Service, serve};
pub use session::{Introduction, Sessions, handover};
