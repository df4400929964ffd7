//! Joins the cluster, and carries out here what operators of other nodes order.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::execute::execute;
use super::request::{AdminRequest, MainRequest};
use super::sessions;
use crate::server::audit::Operator;
use crate::server::cluster::bus::Bus;
use crate::server::cluster::handle::OrderFromNode;
use crate::server::cluster::settings::{Links, Settings};
use crate::server::cluster::task;
use crate::server::context::Context;
use crate::server::rooms::command::Command;
use crate::server::rooms::presence_changes::PresenceChanges;

/// Orders of other nodes that may wait.
const MAX_WAITING_ORDERS: usize = 64;

/// Connects this server with the other nodes, until `stop`. The hub must note joins and leaves in `presence`
/// ([`Hub::in_cluster`](crate::server::rooms::hub::Hub::in_cluster)).
pub fn join_cluster(
    context: &Arc<Context>,
    bus: Arc<dyn Bus>,
    settings: Settings,
    presence: PresenceChanges,
    main: mpsc::Sender<MainRequest>,
    (tasks, stop): (&TaskTracker, CancellationToken),
) {
    let (to_orders, orders) = mpsc::channel(MAX_WAITING_ORDERS);
    let (counting, telling) = (context.clone(), context.clone());
    let links = Links {
        counters: context.counters.clone(),
        sessions: Box::new(move || {
            let sessions = &counting.counters.sessions;
            sessions.basic.get() + sessions.full.get() + sessions.http.get()
        }),
        presence,
        to_hub: Box::new(move |changes, permit| {
            // If the hub has ended, the server ends.
            let _ = telling.hub.send(Command::Elsewhere(changes, permit));
        }),
        orders: to_orders,
    };
    let (cluster, running) = task::start(bus, settings, links, stop);
    // It is joined once.
    let _ = context.cluster.set(cluster);
    tasks.spawn(running);
    tasks.spawn(carry_out(context.clone(), orders, main));
}

/// Carries out the orders one after the other, until the cluster is left.
async fn carry_out(
    context: Arc<Context>,
    mut orders: mpsc::Receiver<OrderFromNode>,
    main: mpsc::Sender<MainRequest>,
) {
    while let Some(OrderFromNode { node, uid, request, answer }) = orders.recv().await {
        let by = Operator::Node { node, uid };
        // Nobody waits for it any more.
        if !answer.is_closed() {
            let _ = answer.send(execute_order(request, by, &context, &main).await);
        }
    }
}

async fn execute_order(
    request: Value,
    by: Operator,
    context: &Context,
    main: &mpsc::Sender<MainRequest>,
) -> Result<Value, String> {
    let request = serde_json::from_value(request).map_err(|_| {
        "this server does not know the request; the servers may have different versions".to_owned()
    })?;
    match request {
        AdminRequest::Kick(target) => {
            let ended = sessions::end_sessions(context, by, &target).await?;
            Ok(json!({"ended": ended}))
        }
        AdminRequest::Rotate
        | AdminRequest::Access
        | AdminRequest::Status
        | AdminRequest::Rooms { .. }
        | AdminRequest::Sessions(_) => execute(request, by, context, main).await,
        other => Err(format!("{} is not carried out for another node", other.verb())),
    }
}
