//! Publishing ports of a container that is there already, and taking them back.

use std::sync::Arc;

use api::container::{Changes, HostConfig};

use super::Actor;
use crate::blocking;
use crate::containers::start;
use crate::error::{Error, Result};
use crate::networks::{Attachment, Endpoint, change, ports, rates, republish};
use republish::Reserved;

impl Actor {
    /// Plans what is asked for, notes it in `host`, and holds the ports if the container runs.
    pub(super) async fn reserve_ports(
        &self,
        host: &mut HostConfig,
        changes: &Changes,
    ) -> Result<Option<Reserved>> {
        if changes.publish_add.is_empty() && changes.publish_remove.is_empty() {
            return Ok(None);
        }
        let (record, places) = (&self.record, &self.record.places);
        let plan = change::plan(&record.name, host, &record.config, &places.published, changes)?;
        republish::check_mode(&host.network_mode, &plan.wishes)?;
        (host.port_bindings, host.publish_all_ports) = (plan.bindings, plan.all);
        let Some(pid) = self.machine.life.pid() else { return Ok(None) };
        let (networks, id) = (Arc::clone(&self.context.networks), record.id.clone());
        let (attachments, places) = (record.attachments.clone(), places.clone());
        let reserved = blocking::run("hold ports", move || {
            networks.reserve((&id, pid), &attachments, &places, plan.gone, &plan.wishes)
        });
        reserved.await.map(Some)
    }

    /// Lets go what was reserved, as nothing comes of it.
    pub(super) async fn give_up_ports(&self, reserved: Option<Reserved>) {
        let Some(reserved) = reserved else { return };
        let networks = Arc::clone(&self.context.networks);
        let given_up = blocking::run("let ports go", move || {
            networks.give_up(reserved);
            Ok(())
        });
        // There is nothing in it that fails.
        let _ = given_up.await;
    }

    /// Has the ports lead to the container. They are noted first: a daemon that comes after this one finds them, and leads them as they
    /// are noted.
    pub(super) async fn switch_ports(&mut self, reserved: Option<Reserved>) -> Result<()> {
        let Some(reserved) = reserved else { return Ok(()) };
        let before = std::mem::replace(&mut self.record.places.published, reserved.published.clone());
        if let Err(error) = self.note_places().await {
            self.record.places.published = before;
            self.give_up_ports(Some(reserved)).await;
            return Err(error);
        }
        let networks = Arc::clone(&self.context.networks);
        let switched = blocking::run("publish ports", move || networks.switch(reserved)).await;
        if switched.is_err() {
            self.record.places.published = before;
            if let Err(error) = self.note_places().await {
                let id = &self.record.id;
                tracing::error!(id, error = %error.chain(), "ports are noted that lead nowhere");
            }
        }
        switched
    }

    /// Has its ports lead to it by the best of these networks, where it is to have these endpoints: those that it has, and those that it
    /// has wished for and could not have. What leads by none of them is closed.
    pub(super) async fn lead_ports(
        &mut self,
        pid: i32,
        attachments: Vec<Attachment>,
        after: Vec<Endpoint>,
    ) -> Result<()> {
        let wishes = ports::wishes(&self.record.host, &self.record.config)?;
        let places = self.record.places.clone();
        if wishes.is_empty() && places.published.is_empty() {
            return Ok(());
        }
        let (networks, id) = (Arc::clone(&self.context.networks), self.record.id.clone());
        let reserved = blocking::run("hold ports", move || {
            let endpoints = (places.endpoints.as_slice(), after.as_slice());
            networks.relead((&id, pid), &attachments, endpoints, &places.published, &wishes)
        });
        let reserved = reserved.await?;
        self.switch_ports(Some(reserved)).await
    }
}

impl Actor {
    /// Its networks as they are to be after a change of their rates.
    pub(super) fn plan_rates(&self, changes: &Changes) -> Result<Option<Vec<Attachment>>> {
        if changes.networks.is_empty() {
            return Ok(None);
        }
        let by_id = changes
            .networks
            .iter()
            .map(|(name, options)| Ok((self.context.networks.id_of(name)?, options.clone())))
            .collect::<Result<_>>()?;
        let all = rates::changed(&self.record.name, &self.record.attachments, &by_id)?;
        let limited = |attachment: &&Attachment| by_id.contains_key(&attachment.network);
        let bridge =
            |attachment: &Attachment| self.context.networks.has_bridge(std::slice::from_ref(attachment));
        if let Some(other) = all.iter().filter(limited).find(|attachment| !bridge(attachment)) {
            let name = &other.name;
            return Err(Error::not_implemented(format!(
                "rates on network {name} are not available: it is no bridge"
            )));
        }
        Ok(Some(all))
    }

    /// Holds back what goes over its cables as it is asked for now, if it runs.
    pub(super) async fn limit_rates(&self) -> Result<()> {
        if self.machine.life.pid().is_none() {
            return Ok(());
        }
        let networks = Arc::clone(&self.context.networks);
        let (attachments, endpoints) =
            (self.record.attachments.clone(), self.record.places.endpoints.clone());
        blocking::run("change rates", move || networks.limit(&attachments, &endpoints)).await
    }

    /// It ended while no daemon was there to see it: what does not go with its cables is removed. They may still be going.
    pub(super) async fn release_rates(&self) {
        if !self.has_rates() {
            return;
        }
        let (networks, paths) = (Arc::clone(&self.context.networks), self.paths.clone());
        let released = blocking::run("remove devices of rates", move || {
            networks.release_rates(&start::places(&paths)?.endpoints);
            Ok(())
        });
        if let Err(error) = released.await {
            tracing::warn!(id = %self.record.id, error = %error.chain(), "devices of rates may be left");
        }
    }

    fn has_rates(&self) -> bool {
        let asked =
            self.record.attachments.iter().flat_map(|attachment| attachment.settings.driver_opts.keys());
        asked.into_iter().any(|option| rates::is_rate(option))
    }

    /// An earlier daemon may have been killed before it did as it had written.
    pub(super) async fn limit_rates_again(&self) {
        if self.has_rates()
            && let Err(error) = self.limit_rates().await
        {
            tracing::warn!(id = %self.record.id, error = %error.chain(), "rates are not what they should be");
        }
    }
}
