//! Making containers and renaming them, and their files.

use std::collections::BTreeMap;

use netloom_runtime::spec::{NetworkMode, NetworkRequest, Record, RestartPolicy};
use serde::{Deserialize, Serialize};

use super::{
    Daemon,
    container::{Container, Status},
    error::{Error, Result},
    events::now,
    lookup::{ID_LEN, check_name, short},
    names,
    network::{BRIDGE, file_of},
    state::State,
    store::{self, Durability},
};
use crate::api::{self, CreateContainer, Created};

/// The version of the files of a container.
pub(crate) const RECORD_VERSION: u32 = 1;

/// A container that comes back after a reboot, as the state directory keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Revenant {
    pub record: Record,
    pub wanted: bool,
}

impl Daemon {
    /// Makes a container's record. Its addresses are leased when it starts.
    pub(crate) fn create(&self, request: CreateContainer) -> Result<Created> {
        let CreateContainer { name, mut spec } = request;
        let mut state = self.state();
        if spec.network.mode == NetworkMode::Bridge && spec.network.networks.is_empty() {
            spec.network.networks.push(NetworkRequest { network: BRIDGE.to_owned(), ..NetworkRequest::default() });
        }
        if let NetworkMode::Container { container } = &mut spec.network.mode {
            // It stays that container, whatever it may be called later.
            *container = state.find(container)?.record.id.clone();
        }
        self.check_spec(&state, &spec, None)?;
        let name = match name {
            Some(name) => check_free_name(&state, &name, None).map(|()| name)?,
            None => names::make_up(|| random().unwrap_or_default(), |name| check_free_name(&state, name, None).is_err()),
        };
        let id = new_id()?;
        let record = Record { version: RECORD_VERSION, id: id.clone(), name: name.clone(), spec, created: now() };
        let container = Container::new(record, Status::default());
        let directory = self.paths.container(&id);
        store::make_directory(&directory)?;
        let written = self.write_record(&container).and_then(|()| self.write_status(&container));
        if let Err(error) = written {
            store::remove_directory(&directory).ok();
            return Err(error);
        }
        self.events.tell("container", "create", &id, &name, &[]);
        state.containers.insert(id.clone(), container);
        Ok(Created { id, name })
    }

    pub(crate) fn rename(&self, word: &str, name: String) -> Result<()> {
        let mut state = self.state();
        let id = state.find(word)?.record.id.clone();
        check_free_name(&state, &name, Some(&id))?;
        let container = state.by_id_mut(&id)?;
        let old = std::mem::replace(&mut container.record.name, name.clone());
        if let Err(error) = self.write_record(container) {
            container.record.name = old;
            return Err(error);
        }
        self.events.tell("container", "rename", &id, &name, &[("old_name", old)]);
        let networks: Vec<_> = container.ports.iter().map(|port| port.attachment.network.clone()).collect();
        self.refresh_names(&state, &networks);
        Ok(())
    }

    /// The containers that `ps` lists.
    pub(crate) fn list(&self, all: bool) -> Vec<api::Container> {
        let state = self.state();
        let mut list: Vec<_> = state.containers.values().filter(|container| all || container.is_active()).collect();
        list.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.name().cmp(b.name())));
        list.into_iter().map(|container| self.view(container)).collect()
    }

    pub(crate) fn inspect(&self, word: &str) -> Result<api::Container> {
        self.state().find(word).map(|container| self.view(container))
    }

    fn view(&self, container: &Container) -> api::Container {
        container.view(self.paths.container(container.id()).join("log").display().to_string())
    }

    /// Writes what a container is to be, also where it survives a reboot if it is to come back.
    pub(crate) fn write_record(&self, container: &Container) -> Result<()> {
        store::write(&self.paths.container(container.id()).join("record.json"), &container.record, Durability::Process)?;
        self.write_revenant(container)
    }

    pub(crate) fn write_status(&self, container: &Container) -> Result<()> {
        store::write(&self.paths.container(container.id()).join("state.json"), &container.status, Durability::Process)?;
        self.write_revenant(container)
    }

    fn write_revenant(&self, container: &Container) -> Result<()> {
        if container.record.spec.restart != RestartPolicy::Always {
            return Ok(());
        }
        let path = file_of(&self.paths.revenants(), container.id());
        let revenant = Revenant { record: container.record.clone(), wanted: container.status.wanted };
        let known: Option<BTreeMap<String, serde_json::Value>> = store::read(&path).unwrap_or_default();
        let same = known.is_some_and(|known| serde_json::to_value(&revenant).is_ok_and(|new| new == serde_json::json!(known)));
        // A sync to disk takes milliseconds: only for what is new.
        if same { Ok(()) } else { store::write(&path, &revenant, Durability::Power).map_err(Error::from) }
    }
}

/// Names that mean the machine itself to whoever looks them up in a container.
const RESERVED: [&str; 3] = ["localhost", "host.netloom.internal", "host.docker.internal"];

/// `kind` is what the name is to be.
pub(crate) fn check_reserved(kind: &str, name: &str) -> Result<()> {
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(Error::conflict(format!("the {kind} `{name}` is reserved"))
            .hint("in a container it means the container itself or this machine: choose another name"));
    }
    Ok(())
}

/// DNS knows no case (RFC 4343), so no two names may differ in that alone. `own` is the container to be renamed.
fn check_free_name(state: &State, name: &str, own: Option<&str>) -> Result<()> {
    check_name("container", name)?;
    check_reserved("container name", name)?;
    let is_holder = |container: &&Container| {
        let same = container.name() == name;
        same || (container.name().eq_ignore_ascii_case(name) && own != Some(container.id()))
    };
    match state.containers.values().find(is_holder) {
        None => Ok(()),
        Some(holder) if holder.name() != name => {
            let (taken, id) = (holder.name(), short(holder.id()));
            Err(Error::conflict(format!("the name `{name}` differs only in case from `{taken}`, container {id}"))
                .hint("names are the same in DNS whatever their case: choose another"))
        }
        Some(holder) => Err(Error::conflict(format!("the name `{name}` is in use by container {}", short(holder.id())))
            .hint(format!("choose another name, or remove that one: netloom rm {name}"))),
    }
}

fn random() -> Option<u64> {
    getrandom::u64().ok()
}

/// 64 random hex digits.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0u8; ID_LEN / 2];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
