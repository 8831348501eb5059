//! A container's networks, while it runs and while it does not.

use std::sync::Arc;

use super::Actor;
use crate::blocking;
use crate::containers::start;
use crate::error::{Error, Result};
use crate::networks::{Attachment, Endpoint};

impl Actor {
    /// What it has on its networks is its own also under this daemon.
    pub(super) fn adopt_places(&mut self) {
        match start::places(&self.paths) {
            Ok(places) => {
                self.context.networks.adopt(&self.record.id, &places);
                self.record.places = places;
            }
            Err(error) => {
                tracing::error!(id = %self.record.id, error = %error.chain(), "cannot tell its addresses");
            }
        }
    }

    /// Its addresses are others' to have.
    pub(super) fn disconnected(&mut self) {
        let places = std::mem::take(&mut self.record.places);
        self.context.networks.leave(&self.record.id);
        self.context.networks.tell_endpoints(&self.record.id, &places.endpoints, "disconnect");
    }

    /// Connects it with one more network: at once if it runs, and at every start.
    pub(super) async fn connect(&mut self, attachment: Attachment) -> Result<()> {
        let (name, network) = (&self.record.name, &attachment.name);
        if self.record.attachments.iter().any(|a| a.network == attachment.network) {
            return Err(Error::forbidden(format!(
                "endpoint with name {name} already exists in network {network}"
            )));
        }
        match self.record.host.network_mode.as_str() {
            "none" => {
                return Err(Error::forbidden(
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                ));
            }
            mode if mode == "host" || mode.starts_with("container:") => {
                return Err(Error::forbidden(
                    "container sharing network namespace with another container or host cannot be connected to any other network",
                ));
            }
            _ => {}
        }
        if let Some(pid) = self.machine.life.pid() {
            let (networks, id) = (Arc::clone(&self.context.networks), self.record.id.clone());
            let (wanted, endpoints) = (attachment.clone(), self.record.places.endpoints.clone());
            let endpoint =
                blocking::run("connect a container", move || networks.connect(&id, pid, &wanted, &endpoints))
                    .await?;
            self.record.places.endpoints.push(endpoint.clone());
            self.note_places().await?;
            self.context.networks.tell_endpoints(&self.record.id, &[endpoint], "connect");
        }
        self.record.attachments.push(attachment);
        self.persist().await
    }

    /// Disconnects it from a network: at once if it runs, and for ever.
    pub(super) async fn disconnect(&mut self, network: &str) -> Result<()> {
        let Some(at) = self.record.attachments.iter().position(|a| a.network == network) else {
            return Err(Error::forbidden(format!(
                "container {} is not connected to the network {network}",
                self.record.id
            )));
        };
        let connected = self.record.places.endpoints.iter().position(|endpoint| endpoint.network == network);
        if let (Some(pid), Some(number)) = (self.machine.life.pid(), connected) {
            let gone = self.record.places.endpoints.remove(number);
            let rest = self.connections();
            let (networks, id, endpoint) =
                (Arc::clone(&self.context.networks), self.record.id.clone(), gone.clone());
            let rest: Vec<_> = rest.into_iter().filter(|(a, _)| a.network != endpoint.network).collect();
            blocking::run("disconnect a container", move || networks.disconnect(&id, pid, &endpoint, &rest))
                .await?;
            self.note_places().await?;
            self.context.networks.tell_endpoints(&self.record.id, &[gone], "disconnect");
        }
        self.record.attachments.remove(at);
        self.persist().await
    }

    /// Each network that it is on, with what it has there.
    fn connections(&self) -> Vec<(Attachment, Endpoint)> {
        let of = |attachment: &Attachment| {
            let found =
                self.record.places.endpoints.iter().find(|endpoint| endpoint.network == attachment.network);
            found.map(|endpoint| (attachment.clone(), endpoint.clone()))
        };
        self.record.attachments.iter().filter_map(of).collect()
    }

    /// Notes for the next daemon where it is connected now.
    async fn note_places(&self) -> Result<()> {
        let (paths, places) = (self.paths.clone(), self.record.places.clone());
        blocking::run("note a container's networks", move || start::note_places(&paths, &places)).await
    }
}
