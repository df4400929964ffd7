//! Requests of operators that concern all nodes of the cluster.
//!
//! `kick` and `rotate` go to all nodes, and so does the news that the access list changed. `status`, `rooms`
//! and `sessions` ask all nodes if the operator wants that. Everything else concerns the server that was asked.
//! A node that does not answer within a second is named in the result.

use serde::Serialize as _;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::execute::execute;
use super::request::{AdminRequest, MainRequest, Target};
use super::sessions;
use crate::server::audit::Operator;
use crate::server::cluster::handle::Cluster;
use crate::server::cluster::orders::{Gathered, NodeResult};
use crate::server::context::Context;

/// Carries out `request` here, and on the other nodes if it concerns them.
pub async fn execute_everywhere(
    request: AdminRequest,
    all_nodes: bool,
    by: Operator,
    context: &Context,
    main: &mpsc::Sender<MainRequest>,
) -> Result<Value, String> {
    let Some(cluster) = context.cluster.get() else {
        return match all_nodes {
            true => Err("this server is not a node of a cluster; leave out --all-nodes".into()),
            false => execute(request, by, context, main).await,
        };
    };
    match &request {
        AdminRequest::Kick(target) => kick(cluster, by, context, target.clone()).await,
        AdminRequest::Rotate
        | AdminRequest::Access
        | AdminRequest::Ban(_)
        | AdminRequest::Unban(_)
        | AdminRequest::Mute(_)
        | AdminRequest::Unmute { .. } => {
            let to_others = match &request {
                AdminRequest::Rotate => AdminRequest::Rotate,
                _ => AdminRequest::Access,
            };
            // The other nodes read the access list only after it was changed here.
            let answer = execute(request, by, context, main).await?;
            let others = order(cluster, by, &to_others).await;
            let mut answer = sum(answer, others, None);
            if let AdminRequest::Access = to_others {
                let problem = context.access_sync.get().and_then(|sync| sync.problem());
                answer[ACCESS_LIST] = problem.map_or(SHARED.into(), Value::from);
            }
            Ok(answer)
        }
        AdminRequest::Status | AdminRequest::Rooms { .. } | AdminRequest::Sessions(_)
            if all_nodes =>
        {
            let (here, others) = tokio::join!(
                execute(request.clone(), by, context, main),
                order(cluster, by, &request)
            );
            Ok(list(cluster.name(), here, others))
        }
        _ if all_nodes => {
            Err(format!("{} concerns one server; leave out --all-nodes", request.verb()))
        }
        _ => execute(request, by, context, main).await,
    }
}

async fn order(cluster: &Cluster, by: Operator, request: &AdminRequest) -> Gathered {
    let request = request.serialize(serde_json::value::Serializer).unwrap_or_default();
    cluster.order(by.uid(), request).await
}

async fn kick(
    cluster: &Cluster,
    by: Operator,
    context: &Context,
    target: Target,
) -> Result<Value, String> {
    sessions::check(&target)?;
    let request = AdminRequest::Kick(target.clone());
    let (here, others) =
        tokio::join!(sessions::end_sessions(context, by, &target), order(cluster, by, &request));
    let (ended, problem) = match here {
        Ok(ended) => (ended, None),
        Err(error) => (0, Some(error)),
    };
    let answer = sum(json!({"ended": ended}), others, problem);
    let is_confirmed =
        [UNANSWERED, FAILED, NOT_CONNECTED].iter().all(|name| answer.get(*name).is_none());
    match answer["ended"] == 0 && is_confirmed {
        true => Err(sessions::no_session(&target)),
        false => Ok(answer),
    }
}

/// The nodes that have not answered.
pub const UNANSWERED: &str = "unanswered";
/// The errors of other nodes, and of this one in what concerns them.
pub const FAILED: &str = "failed";
/// Whether this node has no connection to the engine, so that it has asked no other node.
pub const NOT_CONNECTED: &str = "not_connected";
/// Of a change of access: [`SHARED`] if it is in the access list of the cluster, otherwise why not.
pub const ACCESS_LIST: &str = "access_list";
/// See [`ACCESS_LIST`].
pub const SHARED: &str = "shared";

/// Adds the ended sessions of the other nodes, and what they failed to do.
fn sum(answer: Value, mut others: Gathered, problem: Option<String>) -> Value {
    let Value::Object(mut answer) = answer else { return answer };
    others.answers.extend(problem.map(|problem| ("this server".to_owned(), Err(problem))));
    let nodes = others.answers.iter().filter(|(_, result)| result.is_ok()).count();
    let ended = |result: &NodeResult| result.as_ref().ok()?["ended"].as_u64();
    let ended: u64 = others.answers.iter().filter_map(|(_, result)| ended(result)).sum();
    if let Some(here) = answer.get("ended").and_then(Value::as_u64) {
        answer.insert("ended".into(), (here + ended).into());
    }
    answer.insert("nodes".into(), (nodes + 1).into());
    tell_missing(&mut answer, others);
    Value::Object(answer)
}

/// Names the nodes that did not do it.
fn tell_missing(answer: &mut Map<String, Value>, others: Gathered) {
    if others.is_cut_off {
        answer.insert(NOT_CONNECTED.into(), true.into());
    }
    let failed = others.answers.into_iter().filter_map(|(node, result)| match result {
        Ok(_) => None,
        Err(error) => Some(format!("{node}: {error}")),
    });
    for (name, words) in [(FAILED, failed.collect()), (UNANSWERED, others.unanswered)] {
        if !words.is_empty() {
            answer.insert(name.into(), words.into());
        }
    }
}

/// The rows of all nodes in one list, each with the name of its node; of `status`, a row per node.
fn list(here: &str, answer: Result<Value, String>, mut others: Gathered) -> Value {
    others.answers.insert(0, (here.to_owned(), answer));
    let mut lists: Map<String, Value> = Map::new();
    for (node, result) in &others.answers {
        let Ok(Value::Object(answer)) = result else { continue };
        let is_list = |name: &&String| ["rooms", "sessions"].contains(&name.as_str());
        let found = answer.keys().find(|name| is_list(name) && answer[*name].is_array());
        let (name, rows) = match found {
            Some(name) => (name.as_str(), answer[name].as_array().cloned().unwrap_or_default()),
            None => ("nodes", vec![Value::Object(answer.clone())]),
        };
        let list = lists.entry(name).or_insert_with(|| json!([]));
        for row in rows {
            let mut row = row;
            row["node"] = node.as_str().into();
            list.as_array_mut().into_iter().for_each(|list| list.push(row.clone()));
        }
    }
    if lists.contains_key("rooms") {
        // For the reader of the list, as in the answer of one server.
        let total = lists["rooms"].as_array().map_or(0, Vec::len);
        lists.insert("total".into(), total.into());
        lists.insert("history".into(), "ok".into());
    }
    tell_missing(&mut lists, others);
    Value::Object(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered() -> Gathered {
        let answers = vec![
            (
                "b".to_owned(),
                Ok(json!({"ended": 2, "sessions": [{"user": "ana"}, {"user": "bob"}]})),
            ),
            ("c".to_owned(), Err("the hub does not answer".to_owned())),
        ];
        Gathered { answers, unanswered: vec!["d".into()], is_cut_off: false }
    }

    #[test]
    fn ended_sessions_are_added_up_and_missing_nodes_are_named() {
        let missing = json!(["c: the hub does not answer"]);
        assert_eq!(
            sum(json!({"ended": 1}), gathered(), None),
            json!({"ended": 3, "nodes": 2, "failed": missing, "unanswered": ["d"]})
        );
        assert_eq!(sum(json!({}), Gathered::default(), None), json!({"nodes": 1}));
        let cut_off = Gathered { is_cut_off: true, ..Gathered::default() };
        assert_eq!(sum(json!({}), cut_off, None), json!({"nodes": 1, "not_connected": true}));
    }

    #[test]
    fn lists_of_all_nodes_become_one_with_the_nodes_named() {
        let here = Ok(json!({"sessions": [{"user": "eve"}]}));
        let sessions = json!([
            {"user": "eve", "node": "a"}, {"user": "ana", "node": "b"}, {"user": "bob", "node": "b"},
        ]);
        let answer = list("a", here, gathered());
        assert_eq!(answer["sessions"], sessions);
        assert_eq!(answer["unanswered"], json!(["d"]));
        let here = Ok(json!({"server": "chat-server/1", "sessions": 3, "rooms": 2}));
        let status = list("a", here, Gathered::default());
        assert_eq!(
            status["nodes"][0],
            json!({
                "server": "chat-server/1", "sessions": 3, "rooms": 2, "node": "a",
            })
        );
    }
}
