//! The command line of `chat-client room` and `chat-client device`.

use std::path::PathBuf;

use clap::Subcommand;

/// What `chat-client room` does.
#[derive(Debug, Subcommand)]
pub enum RoomAction {
    /// Create a room with you as its admin
    Create {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
        /// Users to add at once
        #[arg(long, value_name = "USER", value_parser = parse_user, value_delimiter = ',')]
        add: Vec<String>,
    },
    /// Add users, with all their devices
    Add {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
        /// The users
        #[arg(value_name = "USER", required = true, value_parser = parse_user, value_delimiter = ',')]
        users: Vec<String>,
    },
    /// Remove users or devices: they can't read what is said from then on
    Remove {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
        /// The users
        #[arg(value_name = "USER", value_parser = parse_user, value_delimiter = ',', required_unless_present = "device")]
        users: Vec<String>,
        /// Only this device, as room members names it
        #[arg(long, value_name = "DEVICE")]
        device: Vec<String>,
    },
    /// Make users who are in the room its admins: they may change it as you may
    Promote {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
        /// The users
        #[arg(value_name = "USER", required = true, value_parser = parse_user, value_delimiter = ',')]
        users: Vec<String>,
    },
    /// Make admins ordinary members again
    Demote {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
        /// The users
        #[arg(value_name = "USER", required = true, value_parser = parse_user, value_delimiter = ',')]
        users: Vec<String>,
    },
    /// Print who is in the room, one JSON object per device
    Members {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
    },
    /// Print 40 digits that are the same for all members who were shown the same room
    Check {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
    },
    /// Forget the keys of the room on this device; what was read stays in its archive
    Leave {
        /// The room
        #[arg(value_name = "ROOM")]
        name: String,
    },
}

/// What `chat-client device` does.
#[derive(Debug, Subcommand)]
pub enum DeviceAction {
    /// Make the keys of a device in a folder, to be copied once to where it runs
    Init {
        /// The folder
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make the keys of another device of your user in a folder, to be copied once to where it runs. It comes into your
    /// rooms by itself
    Add {
        /// The folder
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The device can add others: it gets the key of your user as well
        #[arg(long)]
        with_user_key: bool,
    },
    /// Start anew with another key, after the folder was copied or restored from a backup
    Renew,
    /// Print this device's user, key and id
    Show,
}

fn parse_user(text: &str) -> Result<String, String> {
    match text.contains("://") {
        true => {
            Err("this is an address and no user; give it with --url, or before the command"
                .to_owned())
        }
        false => Ok(text.to_owned()),
    }
}
