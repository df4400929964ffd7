//! `chat-client device`: makes the keys of a device for another machine, renews those of this one, and shows them.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::client::args::Arguments;
use crate::client::end_to_end::{
    EndToEndOptions, Identity, Problem, StepError, certify, credential, make,
};
use crate::client::end_to_end_args::DeviceAction;
use crate::client::end_to_end_options::end_to_end_options;
use crate::client::exit_code::{ExitCode, Refusal, print_error};
use crate::client::options::target;
use crate::crypto::secret_key::DeviceSecret;
use crate::mls::device::{Device, pins, put_known_base, put_pin};
use crate::mls::renewal::forget_groups;
use crate::mls::rows::Room;
use crate::mls::{State, Step};
use crate::policy::pins::Pin;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::sys::clock::wall_clock;
use crate::sys::stdio;

/// Runs the subcommand.
pub fn run(arguments: &Arguments, action: &DeviceAction) -> Result<ExitCode, Refusal> {
    let device = match action {
        DeviceAction::Init { out } => {
            let name = arguments.common.user.clone().ok_or_else(|| {
                (ExitCode::Usage, "whose device is it? name the user by --user".to_owned())
            })?;
            init(out, &name).map_err(refusal)?
        }
        DeviceAction::Add { out, with_user_key } => {
            let mut state = open_own(arguments)?;
            add(&mut state, out, *with_user_key).map_err(refusal)?
        }
        DeviceAction::Renew => {
            let mut state = open_own(arguments)?;
            renew(&mut state).map_err(refusal)?
        }
        DeviceAction::Show => {
            let mut state = open_own(arguments)?;
            state.step(own).map_err(|error| refusal(error.into()))?
        }
    };
    print(&device)
}

fn refusal(problem: Problem) -> Refusal {
    (problem.exit(), problem.text)
}

fn print(device: &Device) -> Result<ExitCode, Refusal> {
    let certificate = &device.certificate;
    let seconds = i64::try_from(certificate.not_after).unwrap_or(i64::MAX / 1_000_000);
    let line = json!({
        "username": certificate.user,
        "key": certificate.user_key.to_string(),
        "device": device.id().to_string(),
        "valid_until": Timestamp::from_micros(seconds.saturating_mul(1_000_000)).to_string(),
    });
    match stdio::write_stdout(format!("{line}\n").as_bytes()) {
        Ok(()) => Ok(ExitCode::Done),
        Err(_) => Ok(ExitCode::NoStdio),
    }
}

/// Opens the state that the other options name. It must exist.
fn open_own(arguments: &Arguments) -> Result<State, Refusal> {
    let server = target(arguments.server.as_deref(), &arguments.common)
        .map_err(|text| (ExitCode::Usage, text))?;
    let options = end_to_end_options(&arguments.common, &server)?;
    open_existing(&options).map_err(refusal)
}

/// Opens a state, if there is one.
pub fn open_existing(options: &EndToEndOptions) -> Result<State, Problem> {
    if !options.folder.join("state.db").exists() {
        return Err(no_keys(&options.folder));
    }
    Ok(State::open(&options.folder, options.key.as_deref())?)
}

fn no_keys(folder: &Path) -> Problem {
    Problem::identity(format!(
        "there are no keys in {}; they are made by: chat-client -r +ROOM, or name another folder by --e2e-home",
        folder.display()
    ))
}

fn own(step: &Step<'_>) -> Result<Device, StepError> {
    let missing = || Problem::identity("this device has no keys yet");
    Ok(Device::load(step)?.ok_or_else(missing)?)
}

/// A new state in a folder that has none.
fn open_new(out: &Path) -> Result<State, Problem> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let mut state = State::open(out, credential(folder)?.as_deref())?;
    match Identity::load(&mut state)? {
        Identity::Unnamed(_) => Ok(state),
        Identity::Known(device) => Err(Problem::identity(format!(
            "{} has the keys of {} already",
            out.display(),
            device.certificate.user
        ))),
    }
}

fn init(out: &Path, name: &str) -> Result<Device, Problem> {
    let mut state = open_new(out)?;
    Ok(state.step(|step| make(step, &DeviceSecret::fresh(), name, wall_clock()))?)
}

/// What another device of the user gets of this one.
struct Handed {
    certificate: Vec<u8>,
    user_seed: zeroize::Zeroizing<[u8; 32]>,
    rooms: Vec<(RoomName, Seq)>,
    pins: Vec<(String, Pin)>,
}

fn add(state: &mut State, out: &Path, with_user_key: bool) -> Result<Device, Problem> {
    let secret = DeviceSecret::fresh();
    let handed = state.step(|step| {
        let device = own(step)?;
        let user_seed = Device::user_seed(step)?.ok_or_else(|| {
            Problem::identity(
                "this device does not have the key of its user; add the other one from a device that has it",
            )
        })?;
        let name = device.certificate.user.clone();
        let certificate = certify(step, &secret, &name, wall_clock())?;
        let mut rooms = Vec::new();
        for room in Room::names(step)? {
            if let Some(room) = Room::load(step, &room)? {
                rooms.push((room.name, room.base));
            }
        }
        Ok::<_, StepError>(Handed { certificate, user_seed, rooms, pins: pins(step)? })
    })?;
    let mut new = open_new(out)?;
    let device = new.step(|step| {
        if with_user_key {
            Device::store_user_seed(step, &handed.user_seed)?;
        }
        for (room, base) in &handed.rooms {
            put_known_base(step, room, *base)?;
        }
        for (user, pin) in &handed.pins {
            put_pin(step, user, pin)?;
        }
        Device::store(step, &secret, &handed.certificate)
    })?;
    Ok(device)
}

fn renew(state: &mut State) -> Result<Device, Problem> {
    let (device, unsent) = state.step(|step| {
        let old = own(step)?;
        if Device::user_seed(step)?.is_none() {
            return Err(StepError::Problem(Problem::identity(
                "this device does not have the key of its user; make a new one by chat-client device add, from a \
                 device that has it",
            )));
        }
        let unsent = forget_groups(step)?;
        Device::forget_expired(step, Timestamp::from_micros(i64::MAX))?;
        let device = make(step, &DeviceSecret::fresh(), &old.certificate.user, wall_clock())?;
        Ok((device, unsent))
    })?;
    for (id, _) in unsent {
        print_error(&format!("the message with the id {id} is not known to be stored"));
    }
    Ok(device)
}
