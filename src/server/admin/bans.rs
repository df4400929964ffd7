//! Bans and mutes: made, lifted and listed by operators. They are in the access file, so they survive a
//! restart.

use std::time::Duration;

use serde_json::{Value, json};

use super::request::{BanRequest, MuteRequest, Target};
use super::status::NO_ANSWER;
use crate::credentials::access_file::{AccessFile, AccessFileError};
use crate::credentials::ban_record::{BanEntry, BanRecord, check_why};
use crate::policy::ban_term::Term;
use crate::policy::bans::Restriction;
use crate::policy::confusable_names::is_confusable;
use crate::policy::ip_network::IpNetwork;
use crate::protocol::{Timestamp, mask};
use crate::server::access_watch;
use crate::server::audit::{self, BanAct, Operator};
use crate::server::context::Context;
use crate::sys::clock::wall_clock;

/// The longest time that can be given.
const MAX_MILLIS: u64 = 36_500 * 86_400 * 1_000;
/// Entries of bans and mutes in the access file, together.
const MAX_ENTRIES: usize = 10_000;
/// Where local clients and proxies on this machine connect from.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Bans a user, an address or a network, and ends its sessions.
pub async fn ban(context: &Context, by: Operator, request: BanRequest) -> Result<Value, String> {
    let target = record_of(request.target)?;
    let restriction = ban_of(&target)?;
    if let Some(network) = restriction.network() {
        refuse_shared(network, &context.active_config.load().listen.trusted_proxies)?;
    }
    let record = completed(target, request.for_ms, request.why, by)?;
    let until = record.until;
    let replaced = add(context, by, "ban", restriction.clone(), record).await?;
    let ended = access_watch::reread(context, by).await;
    let target = restriction.target();
    let ended =
        ended.ok_or_else(|| format!("{target} is banned, but {}", access_watch::NOT_ENFORCED))?;
    Ok(json!({
        "kind": restriction.kind(), "target": target, "until": until, "replaced": replaced,
        "ended": ended,
    }))
}

/// Refuses the messages of a user from now on, in one room or in every room.
pub async fn mute(context: &Context, by: Operator, request: MuteRequest) -> Result<Value, String> {
    let MuteRequest { user, room, for_ms, why } = request;
    let target = BanRecord { user: Some(user), room, ..BanRecord::default() };
    let restriction = mute_of(&target)?;
    let record = completed(target, for_ms, why, by)?;
    let until = record.until;
    let replaced = add(context, by, "mute", restriction.clone(), record).await?;
    let target = restriction.target();
    match access_watch::reread(context, by).await {
        Some(_) => Ok(json!({
            "kind": "mute", "target": target, "room": restriction.room(), "until": until,
            "replaced": replaced,
        })),
        None => Err(format!("{target} is muted, but not in its open sessions: {NO_ANSWER}")),
    }
}

/// Lifts a ban. A network is lifted only if it is listed.
pub async fn unban(context: &Context, by: Operator, target: Target) -> Result<Value, String> {
    let restriction = ban_of(&record_of(target)?)?;
    if !lift(context, by, "unban", restriction.clone()).await? {
        return Err(not_banned(context, &restriction).await);
    }
    match access_watch::reread(context, by).await {
        Some(_) => Ok(json!({"kind": restriction.kind(), "target": restriction.target()})),
        None => Err(format!("the ban of {} is lifted, but {NO_ANSWER}", restriction.target())),
    }
}

/// Accepts the messages of a user again: in one room if that mute is listed, otherwise everywhere.
pub async fn unmute(
    context: &Context,
    by: Operator,
    user: String,
    room: Option<String>,
) -> Result<Value, String> {
    let restriction = mute_of(&BanRecord { user: Some(user), room, ..BanRecord::default() })?;
    let target = restriction.target();
    if !lift(context, by, "unmute", restriction.clone()).await? {
        return Err(match restriction.room() {
            None => format!("no user named {target} is muted"),
            Some(room) => format!(
                "{target} is not muted in the room {room} alone; chat-server ctl bans lists every mute"
            ),
        });
    }
    match access_watch::reread(context, by).await {
        Some(_) => Ok(json!({"kind": "mute", "target": target, "room": restriction.room()})),
        None => Err(format!("the mute of {target} is lifted, but {NO_ANSWER}")),
    }
}

/// The bans and mutes of the access file that are not over, so that also one that is not in force yet is
/// listed.
pub async fn list(context: &Context) -> Result<Value, String> {
    let file = read_file(context).await?;
    let banned = file.banned.into_iter().map(|entry| (entry.ban(), entry));
    let muted = file.muted.into_iter().map(|entry| (entry.mute(), entry));
    let mut schedule = context.authenticator.bans();
    let mut rows: Vec<Value> = Vec::new();
    for (restriction, entry) in banned.chain(muted) {
        let Ok(Some(restriction)) = restriction else { continue };
        let left = schedule.time_left(entry.term());
        if left == Some(Duration::ZERO) {
            continue;
        }
        let record = match entry {
            BanEntry::Name(_) => BanRecord::default(),
            BanEntry::Record(record) => *record,
        };
        rows.push(json!({
            "kind": restriction.kind(), "target": restriction.target(), "room": restriction.room(),
            "since": record.since, "until": record.until, "seconds_left": left.map(|left| left.as_secs()),
            "why": record.why, "by": record.by,
        }));
    }
    Ok(json!({"bans": rows}))
}

/// The fields of the access file for what the request is about.
fn record_of(target: Target) -> Result<BanRecord, String> {
    let Target { user, address, network, session } = target;
    if session.is_some() {
        return Err("a session can be kicked, but not banned; ban its user or its address".into());
    }
    // Written as the server understands them.
    let network = network.map(|text| match IpNetwork::parse(&text) {
        Some(network) => network.normalized().to_string(),
        None => text,
    });
    Ok(BanRecord { user, address, network, ..BanRecord::default() })
}

fn ban_of(record: &BanRecord) -> Result<Restriction, String> {
    let ban = BanEntry::Record(Box::new(record.clone())).ban()?;
    ban.ok_or_else(|| "this names no user".into())
}

fn mute_of(record: &BanRecord) -> Result<Restriction, String> {
    let mute = BanEntry::Record(Box::new(record.clone())).mute()?;
    mute.ok_or_else(|| "this names no user".into())
}

/// Adds the time, the reason and the operator.
fn completed(
    target: BanRecord,
    for_ms: Option<u64>,
    why: Option<String>,
    by: Operator,
) -> Result<BanRecord, String> {
    if for_ms.is_some_and(|millis| millis == 0 || millis > MAX_MILLIS) {
        return Err("the time must be between a millisecond and 100 years".into());
    }
    if let Some(why) = &why {
        check_why(why).map_err(|reason| format!("the reason {reason}"))?;
    }
    let now = wall_clock();
    let end = |millis: u64| {
        let micros = i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000);
        Timestamp::from_micros(now.micros().saturating_add(micros))
    };
    Ok(BanRecord {
        since: Some(now),
        until: for_ms.map(end),
        why: why.map(|why| mask::secrets(&why).into_owned()),
        by: Some(by.account()),
        ..target
    })
}

/// Refuses to ban what stands for many clients.
fn refuse_shared(network: &IpNetwork, trusted_proxies: &[IpNetwork]) -> Result<(), String> {
    let loopback = LOOPBACK.iter().filter_map(|text| IpNetwork::parse(text));
    let shown = network.short();
    for local in loopback {
        if network.overlaps(&local) {
            return Err(format!(
                "{shown} can't be banned, because loopback ({local}) is in it: this would ban the \
                 clients and proxies on this computer"
            ));
        }
    }
    match trusted_proxies.iter().find(|proxy| network.overlaps(proxy)) {
        None => Ok(()),
        Some(proxy) => Err(format!(
            "{shown} can't be banned, because the trusted proxy {proxy} (listen.trusted_proxies) \
             connects from there for all its clients; ban the address that ctl sessions shows for the client"
        )),
    }
}

/// Why a ban can't be lifted.
async fn not_banned(context: &Context, wanted: &Restriction) -> String {
    let target = wanted.target();
    let Some(network) = wanted.network() else {
        return format!("no user named {target} is banned");
    };
    let banned = read_file(context).await.map(|file| file.banned).unwrap_or_default();
    let networks = banned.iter().filter_map(|entry| entry.ban().ok()??.network().copied());
    let wider = networks.filter(|wider| wider.prefix() < network.prefix());
    match wider.into_iter().find(|wider| wider.contains(network.address())) {
        None => format!("{target} is not banned"),
        Some(wider) => format!(
            "{target} is not banned by itself, but is in the banned network {wider}; to lift that: \
             chat-server ctl unban --network {wider}"
        ),
    }
}

/// Adds an entry in place of an earlier one about the same, and removes those that this server has seen
/// end. Gives whether there was an earlier one.
async fn add(
    context: &Context,
    by: Operator,
    action: &'static str,
    restriction: Restriction,
    record: BanRecord,
) -> Result<bool, String> {
    let seconds = record.until.zip(record.since).map(|(until, since)| until.since(since).as_secs());
    let why = record.why.clone();
    let (wanted, authenticator) = (restriction.clone(), context.authenticator.clone());
    let change = move |file: &mut AccessFile| {
        let mut schedule = authenticator.bans();
        file.banned.retain(|entry| !schedule.has_seen_end(entry.term()));
        file.muted.retain(|entry| !schedule.has_seen_end(entry.term()));
        let is_replaced = restrictions(file).any(|(known, _)| known.is_about_same(&wanted));
        if !is_replaced && file.banned.len() + file.muted.len() >= MAX_ENTRIES {
            return Err(format!(
                "the access file has {MAX_ENTRIES} bans and mutes, and can't have more; lift some, \
                 or ban a network in place of its addresses"
            ));
        }
        remove(file, |known| known.is_about_same(&wanted));
        let entry = BanEntry::Record(Box::new(record));
        match wanted {
            Restriction::Mute(..) => file.muted.push(entry),
            Restriction::BanUser(_) | Restriction::BanNetwork(_) => file.banned.push(entry),
        }
        Ok(is_replaced)
    };
    let log = move |_: &bool| {
        let why = why.as_deref();
        audit::log_ban_act(&BanAct { action, restriction: &restriction, seconds, why }, by);
    };
    change_file(context, change, log).await
}

/// Removes the entries about the same; a mute without a room stands for all of the user. Gives whether
/// one of them was not over.
async fn lift(
    context: &Context,
    by: Operator,
    action: &'static str,
    restriction: Restriction,
) -> Result<bool, String> {
    let (wanted, authenticator) = (restriction.clone(), context.authenticator.clone());
    let is_meant = move |known: &Restriction| match (known, &wanted) {
        (Restriction::Mute(user, _), Restriction::Mute(other, None)) => is_confusable(user, other),
        _ => known.is_about_same(&wanted),
    };
    let change = move |file: &mut AccessFile| {
        let mut schedule = authenticator.bans();
        let was_in_force = restrictions(file)
            .filter(|(known, _)| is_meant(known))
            .any(|(_, term)| schedule.time_left(term) != Some(Duration::ZERO));
        remove(file, is_meant);
        Ok(was_in_force)
    };
    let log = move |was_in_force: &bool| {
        if *was_in_force {
            let act = BanAct { action, restriction: &restriction, seconds: None, why: None };
            audit::log_ban_act(&act, by);
        }
    };
    change_file(context, change, log).await
}

/// The valid bans and mutes of the file.
fn restrictions(file: &AccessFile) -> impl Iterator<Item = (Restriction, Term)> {
    let banned = file.banned.iter().map(|entry| (entry.ban(), entry.term()));
    let muted = file.muted.iter().map(|entry| (entry.mute(), entry.term()));
    banned.chain(muted).filter_map(|(restriction, term)| Some((restriction.ok()??, term)))
}

/// Removes the bans and mutes that are meant.
fn remove(file: &mut AccessFile, is_meant: impl Fn(&Restriction) -> bool) {
    let stays = |restriction: Result<Option<Restriction>, String>| !matches!(restriction, Ok(Some(restriction)) if is_meant(&restriction));
    file.banned.retain(|entry| stays(entry.ban()));
    file.muted.retain(|entry| stays(entry.mute()));
}

async fn read_file(context: &Context) -> Result<AccessFile, String> {
    let file = context.active_config.load().config.auth.access_file.clone();
    match tokio::task::spawn_blocking(move || AccessFile::read(&file)).await {
        Ok(Ok(file)) => Ok(file.unwrap_or_default()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("reading the access file was interrupted; see the server log".into()),
    }
}

/// Carries out `change`, and then `log`, even if no caller waits any more.
async fn change_file<T: Send + 'static>(
    context: &Context,
    change: impl FnOnce(&mut AccessFile) -> Result<T, String> + Send + 'static,
    log: impl FnOnce(&T) + Send + 'static,
) -> Result<T, String> {
    let file = context.active_config.load().config.auth.access_file.clone();
    let changed = tokio::task::spawn_blocking(move || {
        let changed = AccessFile::change(&file, change)?;
        if let Ok(changed) = &changed {
            log(changed);
        }
        Ok::<_, AccessFileError>(changed)
    });
    match changed.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the change of the access file was interrupted; see the server log".into()),
    }
}
