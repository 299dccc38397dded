//! The devices that the verbs library knows: listed, then opened and queried one by one.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::child::State;
use super::question::{Notes, Question};
use super::{Failure, Target, Worker};
use crate::verbs::{CallError, ConnectionManager, Context, DeviceAttributes, DeviceHandle, ErrorNumber, LoadError, PortAttributes};

/// After how many deadlines that passed no further device is asked.
const MOST_DEADLINES: u32 = 2;

/// All devices; none is opened.
#[derive(Debug, Serialize, Deserialize)]
pub struct List;

impl Question for List {
    type Answer = Inventory;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<Inventory, OpenError> {
        if let Err(OpenError::Library(error)) = state.verbs() {
            return Ok(Inventory { library_error: Some(error), ..Inventory::default() });
        }
        let connection_manager_error = match state.target {
            // The real one knows nothing of simulated devices, and must not be touched.
            Target::Devices(_) | Target::Modelled(_) => None,
            Target::Live { .. } => match ConnectionManager::load() {
                Ok(manager) => manager.probe().err().map(|errno| format!("rdma_create_event_channel: {}", ErrorNumber(errno))),
                Err(error) => Some(error.to_string()),
            },
        };
        let inventory = Inventory { connection_manager_error, ..Inventory::default() };
        Ok(match state.listed() {
            Ok(list) => Inventory { devices: list.iter().map(|handle| unopened(&handle)).collect(), ..inventory },
            Err(OpenError::Call(error)) => Inventory { list_error: Some(error), ..inventory },
            Err(_) => inventory,
        })
    }
}

/// A device, which is opened and queried.
#[derive(Debug, Serialize, Deserialize)]
pub struct Query(String);

impl Question for Query {
    type Answer = VerbsDevice;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<VerbsDevice, OpenError> {
        let handle = state.listed()?.iter().find(|handle| handle.name() == self.0).ok_or(OpenError::Unknown(self.0))?;
        let mut device = unopened(&handle);
        match handle.open() {
            Ok(context) => device.query(&context),
            Err(error) => device.error = Some(error),
        }
        Ok(device)
    }
}

/// What the verbs library says about this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    /// Why the library cannot be used; then there are no devices.
    pub library_error: Option<LoadError>,
    /// Why the list of devices cannot be had.
    pub list_error: Option<CallError>,
    /// The devices that the library knows.
    pub devices: Vec<VerbsDevice>,
    /// Whether rdma_cm can be used: nothing, or why not.
    pub connection_manager_error: Option<String>,
    /// What library and providers printed, among it providers that cannot be loaded.
    pub printed: Vec<String>,
}

/// A device as verbs sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerbsDevice {
    /// Name.
    pub name: String,
    /// `enum ibv_node_type`: 1 is a channel adapter, 4 an iWARP adapter.
    pub node_type: i32,
    /// `enum ibv_transport_type`: 0 is InfiniBand (RoCE too), 1 iWARP.
    pub transport_type: i32,
    /// Why it cannot be opened or queried.
    pub error: Option<CallError>,
    /// What became of the process that opened and queried it, if that did not end well.
    #[serde(default)]
    pub loss: Option<Lost>,
    /// What it publishes.
    pub attributes: Option<DeviceAttributes>,
    /// What its ports publish.
    pub ports: Vec<PortAttributes>,
}

/// How a child was lost that was asked something; in words, that it opened and queried a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Lost {
    /// It died.
    #[error("the provider crashed with {signal} when the device was opened and queried{}", last(.printed))]
    Crashed {
        /// The signal's name.
        signal: String,
        /// The last lines that it had printed.
        printed: Vec<String>,
    },
    /// It gave no answer.
    #[error("no answer in {deadline_ms} ms when the device was opened and queried{}", place(.held_in))]
    Hung {
        /// The deadline that passed, in milliseconds.
        deadline_ms: u64,
        /// Where the kernel held it.
        held_in: Option<String>,
    },
    /// It was not begun, because others had taken too long.
    #[error("it was not asked: devices before it did not answer")]
    NotAsked,
}

fn last(printed: &[String]) -> String {
    printed.last().map(|line| format!("; its last words were {line:?}")).unwrap_or_default()
}

fn place(held_in: &Option<String>) -> String {
    held_in.as_ref().map(|place| format!("; the kernel held it in {place}")).unwrap_or_default()
}

/// Why the child could not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum OpenError {
    /// The library cannot be used.
    #[error("{0}")]
    Library(LoadError),
    /// A call failed on the way.
    #[error("{0}")]
    Call(CallError),
    /// The library knows no device of this name.
    #[error("libibverbs does not know the device {0}")]
    Unknown(String),
}

/// What is known of a device that was not opened.
fn unopened(handle: &DeviceHandle<'_>) -> VerbsDevice {
    let (node_type, transport_type) = handle.types();
    VerbsDevice { name: handle.name(), node_type, transport_type, error: None, loss: None, attributes: None, ports: Vec::new() }
}

impl VerbsDevice {
    fn query(&mut self, context: &Context) {
        match context.query_device() {
            Ok(attributes) => {
                // Port numbers are a byte in verbs; a device that claims more is asked for what can be addressed.
                let ports = u8::try_from(attributes.ports).unwrap_or(u8::MAX);
                for port in 1..=ports {
                    match context.query_port(port) {
                        Ok(attributes) => self.ports.push(attributes),
                        Err(error) => self.error = Some(error),
                    }
                }
                self.attributes = Some(attributes);
            }
            Err(error) => self.error = Some(error),
        }
    }
}

impl Worker {
    /// The devices that the verbs library knows, each opened and queried; only `wanted`, where one is named. A device whose provider
    /// crashes or hangs is named with what became of it, and the others go on in a new child.
    ///
    /// # Errors
    /// The library crashed or hung before it listed anything; a library that is missing is part of the answer instead.
    pub fn inventory(&mut self, wanted: Option<&str>) -> Result<Inventory, Failure> {
        let mut inventory = self.ask(List)?;
        let mut printed = self.printed();
        let started = Instant::now();
        let mut gone = Vec::new();
        for device in inventory.devices.iter_mut().filter(|device| wanted.is_none_or(|wanted| wanted == device.name)) {
            if started.elapsed() > self.deadline() * MOST_DEADLINES {
                device.loss = Some(Lost::NotAsked);
                continue;
            }
            match self.ask(Query(device.name.clone())) {
                Ok(queried) => *device = queried,
                Err(Failure::Lost(lost)) => device.loss = Some(lost),
                Err(Failure::CannotStart(OpenError::Call(error))) => device.error = Some(error),
                Err(Failure::CannotStart(_)) => gone.push(device.name.clone()),
                Err(failure) => return Err(failure),
            }
        }
        // It went away between the list and the question.
        inventory.devices.retain(|device| !gone.contains(&device.name));
        for line in self.printed() {
            if !printed.contains(&line) {
                printed.push(line);
            }
        }
        inventory.printed = printed;
        Ok(inventory)
    }
}
