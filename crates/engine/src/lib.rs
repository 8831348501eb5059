//! The daemon's domain: containers, images, volumes and events; their life-cycle and convergence.

pub mod blocking;
pub mod config;
pub mod containers;
pub mod error;
pub mod events;
pub mod execs;
pub mod names;
pub mod networks;
pub mod restart;
pub mod signals;
pub mod system;

use std::sync::Arc;

pub use config::Config;
pub use error::{Error, Kind, Result};

/// The engine: its services, wired.
#[derive(Debug)]
pub struct Engine {
    containers: containers::Containers,
    execs: execs::Execs,
    networks: networks::Networks,
    system: system::System,
    events: Arc<events::Events>,
}

impl Engine {
    /// Opens the engine on its roots: takes the lock, opens the store, adopts what runs.
    pub async fn open(_config: Config) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            containers: containers::Containers {},
            execs: execs::Execs {},
            networks: networks::Networks {},
            system: system::System {},
            events: Arc::new(events::Events::default()),
        }))
    }

    /// Ends what the engine itself does; containers stay as they are.
    pub async fn close(&self) {}

    /// Containers.
    pub fn containers(&self) -> &containers::Containers {
        &self.containers
    }

    /// Commands in running containers.
    pub fn execs(&self) -> &execs::Execs {
        &self.execs
    }

    /// Networks.
    pub fn networks(&self) -> &networks::Networks {
        &self.networks
    }

    /// The engine itself.
    pub fn system(&self) -> &system::System {
        &self.system
    }

    /// What happens.
    pub fn events(&self) -> &Arc<events::Events> {
        &self.events
    }
}
