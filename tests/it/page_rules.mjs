// Checks the pure modules of the web page (src/server/page/files), which `page_rules.rs` copies beside this file.

import assert from "node:assert/strict";
import { Conversation } from "./conversation.js";
import { Fernet, Keys } from "./fernet.js";
import { Outbox } from "./outbox.js";
import { countChars, invitationToken, isEndToEndRoom, isReconnectable, isRoomName, parseFrame, pauseBeforeRetry } from "./protocol.js";
import { RoomLog } from "./room_log.js";

const TIME = "2026-11-26T22:00:00.000000Z";
/** A small generator with a seed, so that a failure can be repeated. */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

async function fernet() {
  // The examples of github.com/fernet/spec.
  const key = btoa("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=");
  const token = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
  const fernet = await Fernet.of(key);
  assert.equal(await fernet.decrypt(token), "hello");
  for (let at = 0; at < token.length; at += 1) {
    const changed = token.slice(0, at) + (token[at] === "x" ? "y" : "x") + token.slice(at + 1);
    await assert.rejects(fernet.decrypt(changed), `character ${at}`);
    await assert.rejects(fernet.decrypt(token.slice(0, at)), `cut at ${at}`);
  }
  for (const other of [` ${token}`, `${token}\n`, token.replaceAll("_", "/"), `${token}AAAA`, "gAAA"]) {
    await assert.rejects(fernet.decrypt(other), other);
  }
  for (const text of ["", "hola", "añ🎉\ufeff\u0000", "x".repeat(20_000)]) {
    assert.equal(await fernet.decrypt(await fernet.encrypt(text, Date.now())), text);
  }
  await assert.rejects(Fernet.of(btoa("short")));
  const keys = new Keys();
  for (let count = 0; count < 20; count += 1) keys.add({ room: "lobby", key_id: `k${count}`, key });
  assert.equal(await keys.read({ room: "lobby", key_id: "k19", content: token }), "hello");
  assert.equal(await keys.read({ room: "lobby", key_id: "k0", content: token }), undefined, "forgotten");
  assert.equal(await keys.read({ room: "ops", key_id: "k19", content: token }), undefined);
}

function protocol() {
  for (const text of ["", "x", "null", "[]", "{}", '{"type":"x"}', '{"type":"ack"}', '{"type":"toString"}',
    '{"type":"user_list","room":"a","users":null}', '{"type":"user_list","room":"a","users":{}}',
    '{"type":"history","room":"a","messages":[{}],"more":false,"reached":1}']) {
    assert.equal(parseFrame(text), null, text);
  }
  assert.ok(parseFrame('{"type":"left","room":"a","new":1}'));
  assert.equal(countChars("añ🎉"), 3);
  assert.deepEqual(["a", "ops-1.x_y", "0"].map(isRoomName), [true, true, true]);
  assert.deepEqual(["", "-a", "A", "a b", "+a", "a".repeat(65)].map(isRoomName), Array(6).fill(false));
  assert.deepEqual(["+ops", " ops", "+dm.7u6t"].map(isEndToEndRoom), [true, true, true]);
  assert.deepEqual(["ops", "++ops", "+", " ", "", "+A", "o ps"].map(isEndToEndRoom), Array(7).fill(false));
  assert.equal(invitationToken("#sct_abc-_9"), "sct_abc-_9");
  assert.equal(invitationToken("#text"), null);
  const codes = [1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4001, 4003, 4008];
  assert.deepEqual(codes.filter(isReconnectable), [1001, 1005, 1006, 1011, 1012, 1013]);
  assert.ok(pauseBeforeRetry(0, 0, 1) === 250 && pauseBeforeRetry(1e9, 0, 1) === 20_000 && pauseBeforeRetry(0, 500, 0) === 500);
}

function outbox() {
  const outbox = new Outbox();
  const all = (now, window) => {
    const ids = [];
    for (let entry; (entry = outbox.next(now, window, (room) => room !== "closed")); ) ids.push(entry.id);
    return ids;
  };
  for (let at = 0; at < 5; at += 1) outbox.push({ id: `m${at}`, room: at % 2 ? "a" : "b", text: "x", at, order: at });
  outbox.push({ id: "kept", room: "closed", text: "x", at: 5, order: 5 });
  assert.deepEqual(all(0, 3), ["m0", "m1", "m2"]);
  outbox.refused({ id: "m1", code: "storage_full", temporary: true, retry_after_ms: 1000 }, 0);
  assert.deepEqual(all(500, 3), [], "the server asked for a pause");
  assert.deepEqual(all(1000, 3), ["m1"], "and it comes before later ones");
  outbox.disconnected();
  assert.deepEqual(all(2000, 9), ["m0", "m1", "m2", "m3", "m4"], "all again, in order");
  assert.equal(outbox.acked("m0").id, "m0");
  assert.equal(outbox.acked("m0"), undefined);
  assert.equal(outbox.refused({ id: "m3", code: "storage_unknown", temporary: true, retry_after_ms: 1000 }, 2000), undefined);
  assert.deepEqual(all(3000, 9), ["m3"], "again under its id");
  assert.equal(outbox.refused({ id: "m2", code: "muted" }, 0).failure.code, "muted");
  assert.deepEqual(all(9000, 9), [], "a failed one waits for the person");
  outbox.retry("m2", "fresh");
  assert.deepEqual(all(9000, 9), ["m2"]);
  outbox.refused({ id: "m2", code: "id_conflict" }, 0);
  outbox.retry("m2", "fresh");
  assert.deepEqual(all(9000, 9), ["fresh"]);
  assert.equal(outbox.echoed({ id: "kept", room: "closed", text: "another" }), undefined);
  assert.equal(outbox.echoed({ id: "kept", room: "closed", text: "x" }).id, "kept", "it is stored, although no ack came");
  outbox.disconnected();
  const old = outbox.expire(24 * 3600 * 1000);
  assert.deepEqual(old.map(({ id }) => id), ["m1", "fresh", "m3", "m4"], "what was sent a day ago is not sent by itself");
}

/** A server's record and a client that reads it in pieces, with everything that can come between. */
function roomLog(seed) {
  const pick = random(seed);
  const server = Array.from({ length: pick(60) }, (_, at) => ({ seq: at + 1, isDeleted: false }));
  let first = 1 + pick(Math.max(1, server.length / 3));
  const log = new RoomLog("r");
  const frame = ({ seq }) => ({ seq, text: `t${seq}`, username: "u", timestamp: TIME });
  const say = () => {
    server.push({ seq: server.length + 1, isDeleted: false });
    return server.at(-1);
  };
  const readPage = (before) => {
    const last = before === null ? server.length : before - 1;
    const start = Math.max(first, last - 5);
    const reachesGap = start <= first && first > 1;
    if (reachesGap) log.gap({ after: 0, next: first, reason: "expired", epoch: "e" });
    const part = server.slice(start - 1, Math.max(start - 1, last));
    for (const { seq } of part.filter(({ isDeleted }) => isDeleted)) log.redacted({ seq, timestamp: TIME });
    const messages = part.filter(({ isDeleted }) => !isDeleted).map(frame);
    log.page({ messages, more: start > first, reached: reachesGap ? 1 : last < start ? (before ?? 1) : start }, before);
  };
  const resume = () => {
    const position = log.position;
    log.enter({ epoch: "f", seq: server.length });
    if (!position) return;
    if (position.seq + 1 < first) log.gap({ after: position.seq, next: first, reason: "expired", epoch: "f" });
    for (const entry of server.slice(Math.max(position.seq, first - 1))) {
      if (entry.isDeleted) log.redacted({ seq: entry.seq, timestamp: TIME });
      else log.message({ ...frame(entry), replay: true }, false);
    }
  };
  log.enter({ epoch: "e", seq: server.length });
  let isConnected = true;
  for (let step = 0; step < 60; step += 1) {
    const what = pick(10);
    if (what < 3) {
      const entry = say();
      if (isConnected) log.message(frame(entry), false);
    } else if (what === 3 && server.length > 0) {
      const entry = server[pick(server.length)];
      if (entry.seq >= first && !entry.isDeleted) {
        entry.isDeleted = true;
        if (isConnected) log.redacted({ seq: entry.seq, timestamp: TIME });
      }
    } else if (what < 7 && isConnected) {
      if (!log.hasStart) readPage(log.before);
    } else if (what === 7) {
      if (isConnected) log.left();
      else resume();
      isConnected = !isConnected;
    } else if (what === 8 && !isConnected && pick(4) === 0) {
      first = Math.min(server.length + 1, first + pick(20));
    }
  }
  if (!log.position) return;
  let expected = log.before;
  for (const item of log.items) {
    if (item.kind === "gap") expected = Math.max(expected, item.order + 0.5);
    else assert.equal(item.seq, expected++, `seed ${seed}: ${log.items.map(({ kind, order }) => kind[0] + order)}`);
  }
  if (isConnected) assert.equal(log.position.seq, server.length, `seed ${seed}`);
}

function newRecord() {
  const log = new RoomLog("r");
  log.enter({ epoch: "e", seq: 0 });
  log.page({ messages: [], more: false, reached: 1 }, null);
  const message = (seq, text) => log.message({ seq, text, username: "u", timestamp: TIME }, false);
  for (let seq = 1; seq <= 5; seq += 1) message(seq, `old ${seq}`);
  log.enter({ epoch: "f", seq: 3 });
  log.gap({ after: 5, next: 3, reason: "epoch", epoch: "f" });
  message(3, "new 3");
  message(4, "new 4");
  const shown = log.items.map(({ kind, text }) => text ?? kind);
  assert.deepEqual(shown, ["old 1", "old 2", "old 3", "old 4", "old 5", "gap", "new 3", "new 4"]);
  assert.deepEqual(log.position, { epoch: "f", seq: 4 });
  assert.equal(new Set(log.items.map(({ key }) => key)).size, 8);
  assert.ok(log.unstored.some(({ cutFrom }) => cutFrom === 3));
  log.redacted({ seq: 1, timestamp: TIME });
  assert.deepEqual(log.items[0].kind, "redacted");
  assert.equal(log.items[0].text, undefined);
}

/** Numbers are left out: nothing is missing unless the server says so, and no number is counted for a message. */
function leftOut() {
  const log = new RoomLog("r");
  log.enter({ epoch: "e", seq: 10 });
  const message = (seq, own = false) => log.message({ seq, text: "t", username: "u", timestamp: TIME, id: `m${seq}` }, own);
  const shown = () => log.items.map(({ kind, seq }) => seq ?? kind);
  assert.equal(log.unread, 0);
  message(14);
  assert.equal(log.unread, 1, "the newest page is not read yet");
  log.page({ messages: [4, 7, 10, 14].map((seq) => ({ seq, text: "t", username: "u", timestamp: TIME })), more: true, reached: 4 }, null);
  message(19);
  message(25, true);
  message(31);
  assert.deepEqual(shown(), [4, 7, 10, 14, 19, 25, 31]);
  assert.equal(log.unread, 3, "an own message is not unread");
  log.left();
  log.enter({ epoch: "e", seq: 44 });
  assert.equal(log.unread, 3, "those to come are not known yet");
  log.gap({ after: 31, next: 38, reason: "expired", epoch: "e" });
  message(44);
  assert.deepEqual(shown(), [4, 7, 10, 14, 19, 25, 31, "gap", 44]);
  assert.equal(log.unread, 4);
  log.see();
  assert.equal(log.unread, 0);
  message(49);
  assert.equal(log.unread, 1);
  log.trim();
  assert.deepEqual(log.position, { epoch: "e", seq: 49 });
}

function conversation() {
  const outbox = new Outbox();
  const conversation = new Conversation({ name: "Ana", token: null }, outbox);
  assert.deepEqual(conversation.register(), { type: "register", protocol: 1, username: "Ana", resume: {} });
  const limits = { message_chars: 10, unacked: 2, ping_interval_ms: 1000 };
  const welcome = { type: "welcome", protocol: 1, username: "Ana", limits, rooms: { lobby: { epoch: "e", seq: 7 } } };
  assert.equal(conversation.receive(welcome, 0).is, "registered");
  conversation.open("lobby");
  conversation.open("lobby");
  assert.deepEqual(conversation.takeFrames(0), [{ type: "history", room: "lobby", limit: 100 }], "asked once");
  conversation.receive({ type: "error", code: "storage_failed", message: "", temporary: true, room: "lobby" }, 0);
  assert.deepEqual(conversation.takeFrames(500), []);
  assert.equal(conversation.takeFrames(1000).length, 1, "and again after a pause");
  conversation.receive({ type: "history", room: "lobby", messages: [], more: false, reached: 1 }, 0);
  assert.deepEqual(conversation.rooms.get("lobby").position, { epoch: "e", seq: 7 });
  conversation.join("ops");
  assert.deepEqual(conversation.takeFrames(0), [{ type: "join", room: "ops" }]);
  const refused = { type: "error", code: "forbidden", message: "no", temporary: false, room: "ops" };
  assert.equal(conversation.receive(refused, 0).is, "not_joined");
  assert.deepEqual([...conversation.rooms.keys()], ["lobby"]);
  conversation.disconnected();
  assert.deepEqual(conversation.register().resume, { lobby: { epoch: "e", seq: 7 } });
  conversation.receive({ type: "error", code: "forbidden", message: "no", temporary: false }, 0);
  assert.equal(conversation.disconnected(), true, "the server may let it in without naming rooms");
  assert.equal(conversation.register().rooms, undefined);
  const far = { ...welcome, rooms: { lobby: { epoch: "f", seq: 9000 } } };
  assert.equal(conversation.receive(far, 0).is, "behind", "too much to read one by one");
  assert.equal(conversation.rooms.get("lobby").position, null);
}

await fernet();
protocol();
outbox();
for (let seed = 1; seed <= 3000; seed += 1) roomLog(seed);
newRecord();
leftOut();
conversation();
console.log("ok");
