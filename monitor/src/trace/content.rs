//! What frames say, in JSON but for events, which are records of the wire.

use monitor_ebpf::wire::Hook;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::frame::Kind;
use crate::advisory::Advisories;
use crate::coverage::{Backend, Coverage, HookState};
use crate::event::{Identities, Key};
use crate::input::{Input, Lost, Resync, Stage};
use crate::inventory::Inventory;

/// An input other than an event as a frame.
pub fn write(input: &Input, identities: &mut Identities) -> Option<(Kind, Vec<u8>)> {
    Some(match input {
        Input::Event(_) => return None,
        Input::Start => (Kind::Start, Vec::new()),
        Input::Settled => (Kind::Settled, Vec::new()),
        Input::Inventory(inventory) => (Kind::Inventory, json(inventory)),
        Input::Coverage(coverage) => (Kind::Coverage, json(&Hooks::of(coverage))),
        Input::Lost(lost) => (Kind::Loss, json(&Loss::of(lost, identities))),
        Input::Resync(reason) => (Kind::Resync, json(&Reason { reason: reason.name().into() })),
        Input::Gone(group) => (Kind::Gone, json(&Group { group: *group })),
    })
}

/// The input that a frame other than an event holds; `None` for a kind that is no input. The error says
/// what is wrong.
pub fn read(kind: Kind, body: &[u8]) -> Result<Option<Input>, String> {
    Ok(Some(match kind {
        Kind::Head | Kind::Event | Kind::Stack | Kind::End => return Ok(None),
        Kind::Start => Input::Start,
        Kind::Settled => Input::Settled,
        Kind::Inventory => Input::Inventory(printable_inventory(parse(body)?)),
        Kind::Coverage => Input::Coverage(parse::<Hooks>(body)?.coverage()),
        Kind::Loss => Input::Lost(parse::<Loss>(body)?.lost()?),
        Kind::Resync => Input::Resync(named(&Resync::ALL, Resync::name, &parse::<Reason>(body)?.reason)?),
        Kind::Gone => Input::Gone(parse::<Group>(body)?.group),
    }))
}

/// Why a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The recording was stopped.
    Stopped,
    /// It goes on in the next file.
    Continued,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct End {
    pub reason: Ending,
}

/// A kernel stack, innermost frame first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stack {
    pub id: u32,
    pub frames: Vec<String>,
}

impl Stack {
    pub fn printable(mut self) -> Stack {
        self.frames.iter_mut().for_each(printable);
        self
    }
}

/// The hooks: the number that records have for each, its name, and whether it reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    pub core_pasids: bool,
    /// Which known defects the kernel has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisories: Option<Advisories>,
    pub hooks: Vec<HookEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookEntry {
    pub number: u16,
    pub name: String,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// By this backend.
    Attached(String),
    Absent,
    /// For this reason.
    Failed(String),
}

impl Hooks {
    pub fn of(coverage: &Coverage) -> Hooks {
        let entry = |(hook, state): (Hook, &HookState)| HookEntry {
            number: hook as u16,
            name: hook.name().into(),
            state: match state {
                HookState::Attached { backend } => State::Attached(backend.name().into()),
                // There is nothing to see of either.
                HookState::Absent | HookState::Idle { .. } | HookState::Off => State::Absent,
                HookState::Failed { reason } => State::Failed(reason.clone()),
            },
        };
        let advisories = coverage.advisories.clone();
        Hooks { core_pasids: coverage.core_pasids, advisories, hooks: coverage.iter().map(entry).collect() }
    }

    /// Hooks and backends of another version are left out: nothing here needs them.
    pub fn coverage(self) -> Coverage {
        let mut coverage = Coverage::default();
        coverage.core_pasids = self.core_pasids;
        coverage.advisories = self.advisories.map(|mut advisories| {
            advisories.texts_mut().for_each(printable);
            advisories
        });
        // In a recording that has nothing of them nobody asked for them.
        for &hook in Hook::ALL.iter().filter(|hook| hook.on_demand()) {
            coverage.set(hook, HookState::Off);
        }
        for entry in self.hooks {
            let Some(hook) = Hook::from_number(entry.number) else { continue };
            coverage.set(
                hook,
                match entry.state {
                    State::Attached(name) => match named(&Backend::ALL, Backend::name, &name) {
                        Ok(backend) => HookState::Attached { backend },
                        Err(_) => HookState::Absent,
                    },
                    State::Absent if hook.on_demand() => HookState::Off,
                    State::Absent => HookState::Absent,
                    State::Failed(mut reason) => {
                        printable(&mut reason);
                        HookState::Failed { reason }
                    }
                },
            );
        }
        coverage
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Loss {
    stage: String,
    count: u64,
    groups: Option<Vec<u64>>,
}

impl Loss {
    fn of(lost: &Lost, identities: &mut Identities) -> Loss {
        let groups = lost.groups.as_ref();
        Loss {
            stage: lost.stage.name().into(),
            count: lost.count,
            groups: groups.map(|keys| keys.iter().map(|&key| identities.number_of(key)).collect()),
        }
    }

    fn lost(self) -> Result<Lost, String> {
        Ok(Lost {
            stage: named(&Stage::ALL, Stage::name, &self.stage)?,
            count: self.count,
            groups: self.groups.map(|keys| keys.into_iter().filter_map(Key::new).collect()),
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Reason {
    reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Group {
    group: u32,
}

pub fn json(value: &impl Serialize) -> Vec<u8> {
    // Plain data with names for keys: there is nothing that could fail.
    serde_json::to_vec(value).unwrap_or_default()
}

pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, wanted: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|&one| name(one) == wanted);
    found.ok_or_else(|| format!("there is no `{}`", wanted.escape_default()))
}

/// What comes from outside goes to terminals.
pub fn printable(text: &mut String) {
    if text.chars().any(char::is_control) {
        *text = text.replace(char::is_control, "?");
    }
}

fn printable_inventory(mut inventory: Inventory) -> Inventory {
    for group in &mut inventory.groups {
        group.default_domain.iter_mut().for_each(printable);
        for device in &mut group.devices {
            printable(&mut device.name);
            [&mut device.driver, &mut device.iommu, &mut device.iommu_driver]
                .into_iter()
                .flatten()
                .for_each(printable);
        }
    }
    inventory
}
