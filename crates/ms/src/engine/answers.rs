//! What instances are told that ask for names over DNS: the table that `names` answers from.
//!
//! Only where instances have addresses of their own, since who asks is known by that. Elsewhere, and
//! where port 53 cannot be had, names are found in `/etc/hosts` alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use agent::Addressing;
use base::{Ipv4Cidr, ServiceName};
use control::{RoutePlan, State};
use names::{Responder, Scope, Table};
use tokio::sync::watch;

use super::convert;

/// The side of the engine's loop.
pub(super) struct Answers {
    /// Where instances ask.
    pub(super) at: IpAddr,
    table: watch::Sender<Arc<Table>>,
    /// What each service is told. Most find the same names and share it.
    scopes: HashMap<ServiceName, Arc<Scope>>,
    /// All that any of them is told.
    localhost: Option<Arc<Scope>>,
}

impl Answers {
    /// Listens; `Err` says why not.
    pub(super) fn open(
        addressing: Addressing,
        pool: Ipv4Cidr,
    ) -> Result<(Answers, Responder, watch::Receiver<Arc<Table>>), String> {
        if addressing == Addressing::Port {
            return Err("instances have no addresses of their own to tell them apart by".to_owned());
        }
        let at = IpAddr::V4(agent::host_address(pool));
        let responder = names::bind(at).map_err(|error| error.to_string())?;
        let (table, following) = watch::channel(Arc::default());
        let answers = Answers { at, table, scopes: HashMap::new(), localhost: None };
        Ok((answers, responder, following))
    }

    /// Names are others now.
    pub(super) fn forget(&mut self) {
        self.scopes.clear();
    }

    /// Gives every instance of the plan the names of its service.
    pub(super) fn publish(&mut self, state: &State, plan: &RoutePlan) {
        if self.scopes.is_empty() {
            self.learn(state);
        }
        let callers = plan.callers.iter().filter_map(|(ip, service)| {
            Some((IpAddr::V4(*ip), Arc::clone(self.scopes.get(service)?)))
        });
        let (callers, localhost) = (callers.collect(), self.localhost.clone());
        self.table.send_replace(Arc::new(Table { callers, localhost }));
    }

    fn learn(&mut self, state: &State) {
        let mut distinct: Vec<Arc<Scope>> = Vec::new();
        let mut all = Scope::default();
        for (service, record) in &state.services {
            let scope = convert::scope_of(state, service);
            let known = distinct.iter().find(|known| ***known == scope).cloned();
            let scope = known.unwrap_or_else(|| {
                for (name, addresses) in &scope.names {
                    all.names.entry(name.clone()).or_insert_with(|| addresses.clone());
                }
                let scope = Arc::new(scope);
                distinct.push(Arc::clone(&scope));
                scope
            });
            self.scopes.insert(service.clone(), scope);
            // Before what others mean by it.
            all.names.insert(service.to_string(), vec![IpAddr::V4(record.address)]);
        }
        self.localhost = Some(Arc::new(all));
    }
}
