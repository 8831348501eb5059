//! Making a network: its record, and what it is on the host.

use std::sync::PoisonError;

use api::network::{CreateRequest, CreateResponse};
use network::{bridge, further};

use super::live::Live;
use super::record::Record;
use super::{Networks, join, options};
use crate::error::{Error, Result};
use crate::names;

impl Networks {
    pub(super) fn create_blocking(&self, request: CreateRequest) -> Result<CreateResponse> {
        // One after the other: two that choose a subnet at once would choose the same.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let name = request.name.clone();
        super::record::check_name(&name)?;
        let there = |live: &Live| live.record.name == name;
        if self.state().values().any(there) {
            return Err(Error::conflict(format!("network with name {name} already exists")));
        }
        let request = self.with_defaults(self.configured(request)?);
        let mut record = Record::of_request(names::new_id()?, request, &self.defaults, &self.taken()?)?;
        if record.is_bridge() {
            check_bridge(&record)?;
        } else if !record.config_only {
            self.check_parent(&mut record)?;
        }
        let id = record.id.clone();
        self.keep(record.clone()).map_err(|error| match error.kind() {
            crate::Kind::Conflict => Error::conflict(format!("network with name {name} already exists")),
            _ => error,
        })?;
        if let Err(error) = self.make(&record) {
            let _ = join::remove(&record);
            self.forget(&record)?;
            return Err(error);
        }
        self.tell(&record, "create", None);
        Ok(CreateResponse { id, warning: String::new() })
    }

    fn make(&self, record: &Record) -> Result<()> {
        if record.config_only {
            return Ok(());
        }
        join::ensure(&join::route()?, record)?;
        if record.is_bridge() {
            self.listen_to_firewalld();
            self.firewalld.join(&record.device());
        }
        self.filter_network(record)?;
        if record.internal || self.respect { self.internal_changed() } else { Ok(()) }
    }

    /// The request with the options that the daemon has for networks of its driver, where it has none itself.
    fn with_defaults(&self, mut request: CreateRequest) -> CreateRequest {
        let driver = if request.driver.is_empty() { options::BRIDGE } else { &request.driver };
        if let Some(own) = self.settings.options.get(driver).filter(|_| !request.config_only) {
            for (key, value) in own {
                request.options.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        request
    }

    /// The request with the configuration of the network that it names.
    fn configured(&self, request: CreateRequest) -> Result<CreateRequest> {
        let from = request.config_from.as_ref().map(|from| from.network.clone()).unwrap_or_default();
        if from.is_empty() || request.config_only {
            return Ok(request);
        }
        let missing = || Error::not_found(format!("configuration network {from:?} not found"));
        let record = self.find(&from).map_err(|_| missing())?;
        if !record.config_only {
            return Err(missing());
        }
        record.configure(request)
    }

    /// Refuses to remove a configuration that networks have.
    pub(super) fn check_unused(&self, record: &Record) -> Result<()> {
        let uses =
            |live: &Live| live.record.config_from == record.name || live.record.config_from == record.id;
        if record.config_only && self.state().values().any(uses) {
            return Err(Error::forbidden(format!("configuration network {:?} is in use", record.name)));
        }
        Ok(())
    }

    /// Finds the device below the containers' ones, and notes whether it is to be made.
    fn check_parent(&self, record: &mut Record) -> Result<()> {
        let (driver, name) = (record.driver.clone(), record.name.clone());
        let failed = |e| Error::system(format!("cannot ask the kernel for {driver} devices")).with_source(e);
        if !further::is_known(further::any(&driver)).map_err(failed)? {
            return Err(Error::not_implemented(format!(
                "cannot create network {name}: this kernel has no {driver} devices (Unknown device type)"
            )));
        }
        self.check_passthru(record)?;
        let host = join::route()?;
        let device = record.device();
        if !record.has_parent() {
            record.made = true;
            return Ok(());
        }
        if bridge::device(&host, &device).map_err(join::kernel)?.is_some() {
            return Ok(());
        }
        let (on, _) = options::vlan(&device)?;
        if bridge::device(&host, &on).map_err(join::kernel)?.is_none() {
            return Err(Error::invalid(format!("-o parent interface does was not found on the host: {on}")));
        }
        record.made = true;
        Ok(())
    }

    /// A device that one network takes over whole is no other's.
    fn check_passthru(&self, record: &Record) -> Result<()> {
        let state = self.state();
        let others = state.values().map(|live| &live.record);
        let mut same = others
            .filter(|other| !other.is_bridge() && !other.config_only && other.device() == record.device());
        match same.find(|other| record.is_taken_whole() || other.is_taken_whole()) {
            Some(other) => Err(Error::forbidden(format!(
                "cannot use mode passthru, macvlan network {} is already using parent interface {}",
                other.name,
                record.device()
            ))),
            None => Ok(()),
        }
    }
}

/// What is there is somebody's: it would be taken over now, and removed with the network.
fn check_bridge(record: &Record) -> Result<()> {
    let device = record.device();
    if bridge::device(&join::route()?, &device).map_err(join::kernel)?.is_none() {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "cannot create network {}: there is a network device {device} already (choose another name for the bridge)",
        record.name
    )))
}
