//! The text of what webhooks send that have none for a chat: attachments and blocks of Slack, embeds of
//! Discord, alerts of Alertmanager, events of GitHub.
//!
//! The senders decide about the size of what they send and don't split it, so these texts are cut and
//! never refused for their length.

use serde_json::{Map, Value};

/// The end of a text that was cut.
const CUT: &str = "[cut: this was longer than a message may be]";

/// The most fields, blocks or attachments that are looked at; far more than the senders allow.
const MAX_PARTS: usize = 100;

type Object = Map<String, Value>;

/// The text of Slack's incoming webhook beyond a plain `text`; `None` if there are no attachments and no
/// blocks. In Slack, `text` stands above the attachments, and stands for the blocks where they can't be
/// shown.
pub fn slack(object: &Object) -> Option<String> {
    let list = |name| object.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
    let (attachments, blocks) = (list("attachments"), list("blocks"));
    if attachments.is_none() && blocks.is_none() {
        return None;
    }
    let mut lines = Vec::new();
    match string(object, "text") {
        Some(text) => lines.push(text.to_owned()),
        None => put_blocks(&mut lines, blocks),
    }
    for attachment in objects(attachments) {
        put_attachment(&mut lines, attachment);
    }
    Some(lines.join("\n"))
}

fn put_attachment(lines: &mut Vec<String>, attachment: &Object) {
    let before = lines.len();
    let of = |name| string(attachment, name);
    lines.extend(["pretext", "title", "text"].into_iter().filter_map(of).map(str::to_owned));
    put_fields(lines, attachment, "title");
    put_blocks(lines, attachment.get("blocks").and_then(Value::as_array));
    if lines.len() == before {
        lines.extend(of("fallback").map(str::to_owned));
    }
    lines.extend(of("title_link").map(str::to_owned));
}

fn put_fields(lines: &mut Vec<String>, object: &Object, title: &str) {
    for field in objects(object.get("fields").and_then(Value::as_array)) {
        match (string(field, title), string(field, "value")) {
            (Some(title), Some(value)) => lines.push(format!("{title}: {value}")),
            (title, value) => lines.extend(title.or(value).map(str::to_owned)),
        }
    }
}

/// The texts of blocks: a header or a section has one, a section may have fields, a context has elements.
fn put_blocks(lines: &mut Vec<String>, blocks: Option<&Vec<Value>>) {
    for block in objects(blocks) {
        lines.extend(block.get("text").and_then(block_text).map(str::to_owned));
        for list in ["fields", "elements"] {
            let items = block.get(list).and_then(Value::as_array).into_iter().flatten();
            lines.extend(items.take(MAX_PARTS).filter_map(block_text).map(str::to_owned));
        }
        let named = string(block, "fallback").or_else(|| string(block, "alt_text"));
        lines.extend(named.map(str::to_owned));
    }
}

/// The text of a text object, or of an element that has one.
fn block_text(value: &Value) -> Option<&str> {
    let text = match value {
        Value::Object(object) => object.get("text")?,
        other => other,
    };
    match text {
        Value::Object(inner) => string(inner, "text"),
        other => other.as_str().filter(|text| !text.is_empty()),
    }
}

/// The text of Discord's webhook beyond a plain `content`; `None` if there are no embeds.
pub fn discord(object: &Object) -> Option<String> {
    let embeds = object.get("embeds").and_then(Value::as_array).filter(|list| !list.is_empty())?;
    let mut lines: Vec<String> = string(object, "content").map(str::to_owned).into_iter().collect();
    for embed in objects(Some(embeds)) {
        let of = |name| string(embed, name);
        lines.extend(["title", "description"].into_iter().filter_map(of).map(str::to_owned));
        put_fields(&mut lines, embed, "name");
        lines.extend(of("url").map(str::to_owned));
    }
    Some(lines.join("\n"))
}

/// The text of Alertmanager's webhook (version 4 of its form): a line for each alert. `None` for any other
/// object.
pub fn alertmanager(object: &Object) -> Option<String> {
    if string(object, "version") != Some("4") {
        return None;
    }
    let alerts = object.get("alerts")?.as_array()?;
    let mut lines: Vec<String> = alerts.iter().filter_map(Value::as_object).map(alert).collect();
    if let Some(more @ 1..) = object.get("truncatedAlerts").and_then(Value::as_u64) {
        lines.push(format!("and {more} more alerts"));
    }
    if lines.is_empty() {
        lines.push(format!("[{}] no alerts", word(string(object, "status").unwrap_or("unknown"))));
    }
    Some(lines.join("\n"))
}

/// `[firing] DiskFull: 3 % are left on db1`; without a summary the labels.
fn alert(alert: &Object) -> String {
    let inner = |name| alert.get(name).and_then(Value::as_object);
    let (labels, annotations) = (inner("labels"), inner("annotations"));
    let status = string(alert, "status").unwrap_or("unknown");
    let name = labels.and_then(|labels| string(labels, "alertname")).unwrap_or("alert");
    let said = ["summary", "description", "message"]
        .into_iter()
        .find_map(|key| annotations.and_then(|annotations| string(annotations, key)));
    let said = said.map(word).unwrap_or_else(|| {
        let others = labels.into_iter().flatten().filter(|(key, _)| *key != "alertname");
        let others = others.take(MAX_PARTS).filter_map(|(key, value)| {
            value.as_str().map(|value| format!("{}={}", word(key), word(value)))
        });
        others.collect::<Vec<_>>().join(", ")
    });
    match said.is_empty() {
        true => format!("[{}] {}", word(status), word(name)),
        false => format!("[{}] {}: {said}", word(status), word(name)),
    }
}

/// The text of an event of GitHub: one line with the repository, the user, what happened, and the URL.
pub fn github(event: &str, object: &Object) -> String {
    let repository = text_at(object, &["repository", "full_name"])
        .or_else(|| text_at(object, &["organization", "login"]))
        .unwrap_or("GitHub");
    let (what, url) = match event {
        "ping" => (ping(object), None),
        "push" => push(object),
        "pull_request" => numbered(object, "pull_request", "pull request"),
        "issues" => numbered(object, "issue", "issue"),
        "workflow_run" => workflow_run(object),
        "release" => release(object),
        _ => (other(object, event), None),
    };
    match url {
        Some(url) => format!("{}: {what}: {}", word(repository), word(url)),
        None => format!("{}: {what}", word(repository)),
    }
}

type Event<'a> = (String, Option<&'a str>);

fn ping(object: &Object) -> String {
    match string(object, "zen") {
        Some(zen) => format!("GitHub sends its events here ({})", word(zen)),
        None => "GitHub sends its events here".to_owned(),
    }
}

fn push(object: &Object) -> Event<'_> {
    let name = string(object, "ref").unwrap_or("a ref");
    let place = match (name.strip_prefix("refs/heads/"), name.strip_prefix("refs/tags/")) {
        (Some(branch), _) => format!("branch {}", word(branch)),
        (_, Some(tag)) => format!("tag {}", word(tag)),
        _ => word(name),
    };
    let pusher =
        text_at(object, &["pusher", "name"]).or_else(|| user(object)).unwrap_or("somebody");
    let is = |name| object.get(name) == Some(&Value::Bool(true));
    if is("deleted") {
        return (format!("{} deleted {place}", word(pusher)), None);
    }
    let count = object.get("commits").and_then(Value::as_array).map_or(0, Vec::len);
    let commits = if count == 1 { "1 commit".into() } else { format!("{count} commits") };
    let verb = match (is("created"), is("forced")) {
        (true, _) => format!("created {place}"),
        (_, true) => format!("force-pushed {commits} to {place}"),
        _ => format!("pushed {commits} to {place}"),
    };
    let head = text_at(object, &["head_commit", "message"]).and_then(|text| text.lines().next());
    let said = head.map(|head| format!(" ({})", word(head))).unwrap_or_default();
    (format!("{} {verb}{said}", word(pusher)), string(object, "compare"))
}

/// A pull request or an issue.
fn numbered<'a>(object: &'a Object, field: &str, kind: &str) -> Event<'a> {
    let at = |name| text_at(object, &[field, name]);
    let inner = object.get(field).and_then(Value::as_object);
    let is_merged = inner.and_then(|inner| inner.get("merged")) == Some(&Value::Bool(true));
    let verb = match action(object) {
        "closed" if is_merged => "merged".to_owned(),
        "synchronize" => "pushed to".to_owned(),
        action => action.replace('_', " "),
    };
    let number = inner.and_then(|inner| inner.get("number")).and_then(Value::as_u64);
    let number = number.map(|number| format!(" #{number}")).unwrap_or_default();
    let title = at("title").map(|title| format!(" ({})", word(title))).unwrap_or_default();
    let user = word(user(object).unwrap_or("somebody"));
    (format!("{user} {} {kind}{number}{title}", word(&verb)), at("html_url"))
}

fn workflow_run(object: &Object) -> Event<'_> {
    let at = |name| text_at(object, &["workflow_run", name]);
    let name = word(at("name").unwrap_or("workflow"));
    let result = match action(object) {
        "completed" => at("conclusion").unwrap_or("completed"),
        action => action,
    };
    let branch =
        at("head_branch").map(|branch| format!(" on {}", word(branch))).unwrap_or_default();
    let by = text_at(object, &["workflow_run", "actor", "login"]).or_else(|| user(object));
    let by = by.map(|by| format!(" (by {})", word(by))).unwrap_or_default();
    (format!("{name}{branch}: {}{by}", word(&result.replace('_', " "))), at("html_url"))
}

fn release(object: &Object) -> Event<'_> {
    let at = |name| text_at(object, &["release", name]);
    let name = at("name").or_else(|| at("tag_name")).unwrap_or("of no name");
    let user = word(user(object).unwrap_or("somebody"));
    (format!("{user} {} release {}", word(action(object)), word(name)), at("html_url"))
}

fn other(object: &Object, event: &str) -> String {
    let action =
        string(object, "action").map(|action| format!(" {}", word(&action.replace('_', " "))));
    let by = user(object).map(|user| format!(" by {}", word(user))).unwrap_or_default();
    format!("{}{}{by}", word(&event.replace('_', " ")), action.unwrap_or_default())
}

fn action(object: &Object) -> &str {
    string(object, "action").unwrap_or("changed")
}

fn user(object: &Object) -> Option<&str> {
    text_at(object, &["sender", "login"])
}

fn objects(list: Option<&Vec<Value>>) -> impl Iterator<Item = &Object> {
    list.into_iter().flatten().take(MAX_PARTS).filter_map(Value::as_object)
}

/// A field that is a string and not empty.
fn string<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn text_at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a str> {
    let (last, outer) = path.split_last()?;
    let inner = outer.iter().try_fold(object, |object, name| object.get(*name)?.as_object())?;
    string(inner, last)
}

/// A text in one line.
fn word(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text if it has at most `max_chars` characters; else as many whole lines as fit, or the beginning of
/// the first, and a note that it was cut.
pub fn cut(text: String, max_chars: usize) -> String {
    if text.len() <= max_chars || text.chars().count() <= max_chars {
        return text;
    }
    let first = |count| text.chars().take(count).collect::<String>();
    let Some(room) = max_chars.checked_sub(CUT.len() + 1).filter(|room| *room > 0) else {
        return first(max_chars);
    };
    // A line end right after the beginning that fits is where the last whole line ends.
    let shown = first(room + 1);
    let shown = match shown.rfind('\n') {
        Some(end) if end > 0 => shown[..end].to_owned(),
        _ => first(room),
    };
    format!("{shown}\n{CUT}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn attachments_and_blocks_of_slack_become_lines() {
        for (value, text) in [
            // As the slack_configs of Alertmanager send it.
            (
                json!({"channel": "#ops", "username": "Alertmanager", "attachments": [{
                    "title": "[FIRING:1] DiskFull (db1)", "title_link": "http://am:9093/#/alerts",
                    "text": "3 % left", "fallback": "[FIRING:1] DiskFull", "color": "danger",
                    "mrkdwn_in": ["fallback", "pretext", "text"], "fields": [{"title": "host", "value": "db1"}],
                }]}),
                "[FIRING:1] DiskFull (db1)\n3 % left\nhost: db1\nhttp://am:9093/#/alerts",
            ),
            (json!({"text": "above", "attachments": [{"fallback": "below"}]}), "above\nbelow"),
            (
                json!({"blocks": [
                    {"type": "header", "text": {"type": "plain_text", "text": "Deploy"}},
                    {"type": "section", "fields": [{"type": "mrkdwn", "text": "*a*"}, {"type": "mrkdwn", "text": "b"}]},
                    {"type": "divider"},
                    {"type": "context", "elements": [{"type": "mrkdwn", "text": "by ci"}]},
                    {"type": "image", "image_url": "http://x/y.png", "alt_text": "a graph"},
                ]}),
                "Deploy\n*a*\nb\nby ci\na graph",
            ),
            (json!({"text": "short", "blocks": [{"text": {"text": "long"}}]}), "short"),
            (json!({"attachments": [{"blocks": [{"text": {"text": "inner"}}]}]}), "inner"),
            (json!({"attachments": [7, {"title": 7}]}), ""),
        ] {
            assert_eq!(slack(&object(value.clone())).as_deref(), Some(text), "{value}");
        }
        assert_eq!(slack(&object(json!({"text": "plain", "attachments": []}))), None);
    }

    #[test]
    fn embeds_of_discord_become_lines() {
        let embeds = json!({"content": "hola", "username": "bot", "embeds": [{
            "title": "CI", "description": "red", "url": "http://ci/7", "fields": [{"name": "job", "value": "x"}],
        }]});
        let text = discord(&object(embeds));
        assert_eq!(text.as_deref(), Some("hola\nCI\nred\njob: x\nhttp://ci/7"));
        assert_eq!(discord(&object(json!({"content": "hola"}))), None);
    }

    #[test]
    fn each_alert_is_a_line() {
        let alerts = json!({
            "version": "4", "status": "firing", "receiver": "chat", "truncatedAlerts": 2, "groupKey": "{}",
            "alerts": [
                {"status": "firing", "labels": {"alertname": "DiskFull", "instance": "db1"},
                 "annotations": {"summary": "3 %\nleft", "description": "long"}},
                {"status": "resolved", "labels": {"alertname": "Down", "instance": "db2", "job": "node"}, "annotations": {}},
                {"status": "firing", "annotations": {"description": "no name"}},
                {"labels": {"alertname": "Bare"}},
            ],
        });
        assert_eq!(
            alertmanager(&object(alerts)).unwrap(),
            "[firing] DiskFull: 3 % left\n[resolved] Down: instance=db2, job=node\n[firing] alert: no name\n\
             [unknown] Bare\nand 2 more alerts"
        );
        let none = json!({"version": "4", "status": "resolved", "alerts": []});
        assert_eq!(alertmanager(&object(none)).as_deref(), Some("[resolved] no alerts"));
        for other in
            [json!({"alerts": []}), json!({"version": "4"}), json!({"version": 4, "alerts": []})]
        {
            assert_eq!(alertmanager(&object(other)), None);
        }
    }

    #[test]
    fn each_event_of_github_is_a_line() {
        for (event, value, text) in [
            (
                "ping",
                json!({"zen": "Keep it logically awesome."}),
                "o/r: GitHub sends its events here (Keep it logically awesome.)",
            ),
            (
                "push",
                json!({"ref": "refs/heads/main", "pusher": {"name": "ana"}, "commits": [{}, {}], "created": false,
                    "head_commit": {"message": "Fix it\n\nBecause"}, "compare": "https://g/c"}),
                "o/r: ana pushed 2 commits to branch main (Fix it): https://g/c",
            ),
            (
                "push",
                json!({"ref": "refs/heads/main", "pusher": {"name": "ana"}, "commits": [{}], "forced": true, "compare": "u"}),
                "o/r: ana force-pushed 1 commit to branch main: u",
            ),
            (
                "push",
                json!({"ref": "refs/tags/v1", "pusher": {"name": "ana"}, "commits": [], "created": true, "compare": "u"}),
                "o/r: ana created tag v1: u",
            ),
            (
                "push",
                json!({"ref": "refs/heads/old", "deleted": true, "head_commit": null, "commits": []}),
                "o/r: eva deleted branch old",
            ),
            (
                "pull_request",
                json!({"action": "opened", "number": 7, "pull_request": {"number": 7, "title": "A\u{a0}b", "html_url": "u"}}),
                "o/r: eva opened pull request #7 (A b): u",
            ),
            (
                "pull_request",
                json!({"action": "closed", "pull_request": {"number": 7, "title": "T", "html_url": "u", "merged": true}}),
                "o/r: eva merged pull request #7 (T): u",
            ),
            (
                "issues",
                json!({"action": "closed", "issue": {"number": 9, "title": "T", "html_url": "u"}}),
                "o/r: eva closed issue #9 (T): u",
            ),
            (
                "workflow_run",
                json!({"action": "completed", "workflow_run": {"name": "CI", "head_branch": "main", "conclusion": "failure",
                    "html_url": "u", "actor": {"login": "ana"}}}),
                "o/r: CI on main: failure (by ana): u",
            ),
            (
                "workflow_run",
                json!({"action": "in_progress", "workflow_run": {"name": "CI", "head_branch": "main", "conclusion": null}}),
                "o/r: CI on main: in progress (by eva)",
            ),
            (
                "release",
                json!({"action": "published", "release": {"tag_name": "v1", "name": null, "html_url": "u"}}),
                "o/r: eva published release v1: u",
            ),
            (
                "issue_comment",
                json!({"action": "created", "comment": {}}),
                "o/r: issue comment created by eva",
            ),
            ("gollum", json!({}), "o/r: gollum by eva"),
        ] {
            let mut payload = object(value);
            payload.insert("repository".into(), json!({"full_name": "o/r"}));
            payload.insert("sender".into(), json!({"login": "eva"}));
            assert_eq!(github(event, &payload), text);
        }
        let organization =
            object(json!({"organization": {"login": "org"}, "action": "member_added"}));
        assert_eq!(github("organization", &organization), "org: organization member added");
        assert_eq!(github("push", &Object::new()), "GitHub: somebody pushed 0 commits to a ref");
    }

    #[test]
    fn a_long_text_is_cut_at_a_line() {
        let lines = |count: usize| vec!["0123456789"; count].join("\n");
        assert_eq!(cut(lines(5), 54), lines(5));
        // 5 lines and the note have 99 characters.
        assert_eq!(cut(lines(20), 99), format!("{}\n{CUT}", lines(5)));
        assert_eq!(cut(lines(20), 98), format!("{}\n{CUT}", lines(4)));
        assert_eq!(cut("ñ".repeat(200), 100), format!("{}\n{CUT}", "ñ".repeat(100 - 45)));
        assert_eq!(cut("ñ".repeat(200), 10), "ñ".repeat(10));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<u64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::String),
            Just(Value::String("4".into())),
        ];
        let name = prop::sample::select(vec![
            "text",
            "attachments",
            "blocks",
            "fields",
            "title",
            "value",
            "alerts",
            "version",
            "labels",
            "annotations",
            "repository",
            "full_name",
            "sender",
            "login",
            "action",
            "commits",
            "ref",
            "embeds",
            "pull_request",
            "issue",
            "workflow_run",
            "release",
            "name",
            "elements",
        ]);
        leaf.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((name.clone(), inner), 0..6).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_object_panics_and_an_event_is_one_line(value in any_json(), event: String, max in 1..300_usize) {
            let Value::Object(object) = value else { return Ok(()) };
            for event in ["push", "pull_request", "issues", "workflow_run", "release", "ping", &event] {
                let line = github(event, &object);
                prop_assert_eq!(line.lines().count(), 1);
                prop_assert!(cut(line, max).chars().count() <= max);
            }
            for text in [slack(&object), discord(&object), alertmanager(&object)].into_iter().flatten() {
                prop_assert!(cut(text, max).chars().count() <= max);
            }
        }
    }
}
