//! The container's health: watched while it runs and is not paused.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Actor;
use crate::containers::state::Phase;
use crate::health::{Health, Monitor, Plan, Watched};

impl Actor {
    fn health_plan(&self) -> Option<Plan> {
        let config = &self.record.config;
        Plan::of(config.healthcheck.as_ref(), &config.shell).unwrap_or_else(|error| {
            // An image's: a request with it is refused.
            tracing::warn!(id = %self.record.id, error = %error.chain(), "its health is not checked");
            None
        })
    }

    /// A run begins.
    pub(super) fn begin_health(&mut self) {
        self.monitor = None;
        self.record.health = self.health_plan().map(|_| Health::begin(self.record.health.take()));
    }

    /// A run has ended.
    pub(super) fn forget_health(&mut self) {
        self.monitor = None;
        if let Some(health) = &mut self.record.health {
            health.end();
        }
    }

    /// Watches what is to be watched, and nothing else.
    pub(super) fn settle_health(&mut self) {
        let running = matches!(self.machine.life.phase, Phase::Running { .. });
        let (true, Some(shim)) = (running, &self.shim) else {
            if self.monitor.is_some() {
                self.forget_health();
                self.show();
            }
            return;
        };
        if self.monitor.is_some() {
            return;
        }
        let shim = shim.clone();
        let Some(plan) = self.health_plan() else { return };
        self.runs += 1;
        let health = self.record.health.clone().unwrap_or_else(|| Health::begin(None));
        self.record.health = Some(health.clone());
        let record = self.show();
        let told = (self.runs, self.handle.mailbox.clone());
        self.monitor = Some(Monitor::start(&self.context, record, shim, plan, health, told));
    }

    /// A probe has told something.
    pub(super) async fn probed(&mut self, watched: Watched) {
        if !self.monitor.as_ref().is_some_and(|monitor| monitor.is_of(&watched)) {
            // Of a run that has ended.
            return;
        }
        let word = watched.health.status.word();
        self.record.health = Some(watched.health);
        if !watched.changed {
            drop::<Arc<_>>(self.show());
            return;
        }
        if let Err(error) = self.persist().await {
            // The next daemon begins with what was known before.
            tracing::warn!(id = %self.record.id, error = %error.chain(), "cannot write the record");
        }
        self.context.tell(&self.record, &format!("health_status: {word}"), BTreeMap::new());
    }
}
