//! A container's networks, while it runs and while it does not.

use std::sync::Arc;

use super::Actor;
use crate::blocking;
use crate::containers::{files, lender, linked, start};
use crate::error::{Error, Result};
use crate::networks::{Attachment, Endpoint, abandon};

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

    /// Its names are looked up on, in the background: netd may have to be started. Not before all places are adopted: netd would be told
    /// of networks that have lost names.
    pub(super) fn adopt_names(&self, pid: i32) {
        let (networks, record) = (Arc::clone(&self.context.networks), self.record.clone());
        self.context.tasks.spawn(async move {
            let (id, upstreams) = (record.id.clone(), files::name_servers(&networks.completed(&record)));
            let adopted = blocking::run("look up names again", move || {
                networks.adopt_names(&record, pid, &record.places, &upstreams)
            });
            if let Err(error) = adopted.await {
                tracing::warn!(id, error = %error.chain(), "names are not looked up for a container");
            }
        });
    }

    /// Where another lent it its network and ended while no daemon was there, the devices are still in it.
    pub(super) fn check_lender(&self, pid: i32) {
        if lender::named(&self.record.host.network_mode).is_none() {
            return;
        }
        let (context, id) = (Arc::clone(&self.context), self.record.id.clone());
        self.context.tasks.spawn(async move {
            let abandoned = blocking::run("clear a network that was lent", move || {
                let orphans = lender::orphans(&context.index, None)?;
                if orphans.contains(&pid) { abandon(pid) } else { Ok(()) }
            });
            if let Err(error) = abandoned.await {
                tracing::warn!(id, error = %error.chain(), "devices are left in a network that was lent");
            }
        });
    }

    /// Others find it by its names, for as long as its first process lives.
    pub(super) async fn named(&mut self, pid: i32) {
        if self.record.places.endpoints.is_empty() {
            return;
        }
        let (networks, record) = (Arc::clone(&self.context.networks), self.record.clone());
        let on: Vec<String> = self.record.places.endpoints.iter().map(|e| e.network.clone()).collect();
        let told = blocking::run("tell a container's names", move || {
            networks.names_changed(on);
            networks.names_until(&record, pid, &record.places)
        });
        if let Err(error) = told.await {
            tracing::warn!(id = %self.record.id, error = %error.chain(), "netd is not told of a container's life");
        }
    }

    /// Those that have links to it find it at its new address.
    pub(super) async fn relinked(&self) {
        if self.record.places.endpoints.is_empty() {
            return;
        }
        let (context, record) = (Arc::clone(&self.context), self.record.clone());
        let told = blocking::run("tell others of a link", move || {
            linked::tell(&context, &record);
            Ok(())
        });
        // What fails is said there.
        let _ = told.await;
    }

    /// Its addresses are others' to have.
    pub(super) async fn disconnected(&mut self) {
        if self.record.attachments.is_empty() {
            return;
        }
        let places = std::mem::take(&mut self.record.places);
        let (networks, id) = (Arc::clone(&self.context.networks), self.record.id.clone());
        let left = blocking::run("leave a container's networks", move || {
            networks.leave(&id);
            Ok(())
        });
        // What fails is said there.
        let _ = left.await;
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
            self.connect_now(pid, &attachment).await?;
        }
        let network = attachment.network.clone();
        self.record.attachments.push(attachment);
        self.persist().await?;
        self.names_changed(network).await;
        Ok(())
    }

    /// Disconnects it from a network: at once if it runs, and for ever.
    pub(super) async fn disconnect(&mut self, network: &str) -> Result<()> {
        let Some(at) = self.record.attachments.iter().position(|a| a.network == network) else {
            return Err(Error::forbidden(format!(
                "container {} is not connected to the network {network}",
                self.record.id
            )));
        };
        // First it is written down: if the daemon dies before it is done, the next one goes on with it.
        let attachment = self.record.attachments.remove(at);
        if let Err(error) = self.persist().await {
            self.record.attachments.insert(at, attachment);
            return Err(error);
        }
        if let Some(pid) = self.machine.life.pid() {
            self.disconnect_now(pid, network).await?;
        }
        self.names_changed(network.to_owned()).await;
        Ok(())
    }

    /// Connects it as it runs. The place is noted before there is anything there: the next daemon takes away what has no attachment.
    async fn connect_now(&mut self, pid: i32, attachment: &Attachment) -> Result<()> {
        let before = self.record.places.endpoints.clone();
        let (networks, id, paths) =
            (Arc::clone(&self.context.networks), self.record.id.clone(), self.paths.clone());
        let (wanted, others) = (attachment.clone(), self.record.attachments.clone());
        let mut places = self.record.places.clone();
        let connected = blocking::run("connect a container", move || {
            networks.connect((&id, pid), &others, &wanted, &mut places, |places| {
                start::note_places(&paths, places)
            })?;
            Ok(places)
        });
        let places = connected.await?;
        let new = places.endpoints.iter().filter(|e| !before.contains(e)).cloned().collect::<Vec<_>>();
        self.record.places = places;
        // Its ports may have had no way in, or lead by a better one from now on.
        let attachments = self.record.attachments.iter().chain([attachment]).cloned().collect();
        let after = self.record.places.endpoints.clone();
        if let Err(error) = self.lead_ports(pid, attachments, after).await {
            if let Err(error) = self.disconnect_now(pid, &attachment.network).await {
                let (id, network) = (&self.record.id, &attachment.name);
                tracing::warn!(id, network, error = %error.chain(), "a container is still on a network");
            }
            return Err(error);
        }
        self.adopt_names(pid);
        self.files_changed(before).await;
        self.context.networks.tell_endpoints(&self.record.id, &new, "connect");
        Ok(())
    }

    /// Cuts it off as it runs.
    async fn disconnect_now(&mut self, pid: i32, network: &str) -> Result<()> {
        let Some(number) = self.record.places.endpoints.iter().position(|e| e.network == network) else {
            return Ok(());
        };
        self.lead_ports_past(pid, number).await?;
        let before = self.record.places.endpoints.clone();
        let gone = self.record.places.endpoints.remove(number);
        let rest = self.connections();
        let (networks, id, endpoint) =
            (Arc::clone(&self.context.networks), self.record.id.clone(), gone.clone());
        blocking::run("disconnect a container", move || networks.disconnect(&id, pid, &endpoint, &rest))
            .await?;
        self.note_places().await?;
        self.show();
        self.names_left().await;
        self.files_changed(before).await;
        self.context.networks.tell_endpoints(&self.record.id, &[gone], "disconnect");
        Ok(())
    }

    /// Names of a network that it has left are not looked up for it any more. What fails is said in the log.
    async fn names_left(&self) {
        let (networks, record) = (Arc::clone(&self.context.networks), self.record.clone());
        let told = blocking::run("tell of a network that was left", move || {
            let upstreams = files::name_servers(&networks.completed(&record));
            networks.names_left(&record, &record.places, &upstreams)
        });
        if let Err(error) = told.await {
            tracing::warn!(id = %self.record.id, error = %error.chain(), "names are looked up as they were");
        }
    }

    /// Has no port lead to what it has on one of its networks, before that is taken away and the address is another's to have: they lead
    /// by the others, or nowhere.
    async fn lead_ports_past(&mut self, pid: i32, number: usize) -> Result<()> {
        let mut after = self.record.places.endpoints.clone();
        let left = after.remove(number);
        let on = |attachment: &&Attachment| attachment.network != left.network;
        let attachments = self.record.attachments.iter().filter(on).cloned().collect();
        let Err(error) = self.lead_ports(pid, attachments, after).await else { return Ok(()) };
        tracing::warn!(id = %self.record.id, error = %error.chain(), "ports are closed, as their network is left");
        self.lead_ports(pid, Vec::new(), Vec::new()).await
    }

    /// Takes away what an earlier daemon had begun to connect, or not done disconnecting, when it was killed.
    pub(super) async fn disconnect_unattached(&mut self, pid: i32) {
        let attached = |network: &String| self.record.attachments.iter().any(|a| a.network == *network);
        let all = self.record.places.endpoints.iter().map(|endpoint| endpoint.network.clone());
        let begun: Vec<String> = all.filter(|network| !attached(network)).collect();
        for network in begun {
            if let Err(error) = self.disconnect_now(pid, &network).await {
                tracing::warn!(id = %self.record.id, network, error = %error.chain(), "a container is still on a network");
            }
        }
    }

    pub(super) async fn names_changed(&self, network: String) {
        let networks = Arc::clone(&self.context.networks);
        let told = blocking::run("tell a network's names", move || {
            networks.names_changed([network]);
            Ok(())
        });
        // What fails is said there.
        let _ = told.await;
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

    /// Its `/etc/hosts` and `/etc/resolv.conf` say what it is connected with now. What fails is said in the log: it is connected all the same.
    async fn files_changed(&self, before: Vec<Endpoint>) {
        let (networks, paths, record) =
            (Arc::clone(&self.context.networks), self.paths.clone(), self.record.clone());
        let changed = blocking::run("change a container's files", move || {
            let named = networks.has_names(&record.places);
            files::update(&networks.completed(&record), &paths, &before, &record.places.endpoints, named)
        });
        if let Err(error) = changed.await {
            tracing::warn!(id = %self.record.id, error = %error.chain(), "names in a container are as they were");
        }
    }

    /// Notes for the next daemon where it is connected now.
    pub(super) async fn note_places(&self) -> Result<()> {
        let (paths, places) = (self.paths.clone(), self.record.places.clone());
        blocking::run("note a container's networks", move || start::note_places(&paths, &places)).await
    }
}
