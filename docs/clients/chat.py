"""Sends each line of standard input to a room, prints what comes there, and ends when every line is stored.

    pip install websockets cryptography
    printf 'hola\n' | python3 chat.py ws://127.0.0.1:8765 ops ana     # $CHAT_ACCESS_TOKEN proves the user
"""
import asyncio, base64, json, os, sys, uuid
from cryptography.fernet import Fernet
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

async def main(url, room, user):
    unsent = {str(uuid.uuid4()): line.rstrip("\n") for line in sys.stdin}     # by id, until the ack
    register = {"type": "register", "protocol": 1, "username": user, "rooms": [room], "resume": {}}
    register["access_token"] = os.environ.get("CHAT_ACCESS_TOKEN", "")
    async for socket in connect(url):                                         # again after each lost connection
        keys, in_flight = {}, set()
        try:
            await socket.send(json.dumps(register))
            async for text in socket:
                frame = json.loads(text)
                match frame["type"]:
                    case "welcome":
                        window, head = frame["limits"]["unacked"], frame["rooms"][room]
                        register["resume"].setdefault(room, head)
                    case "encryption_key":
                        keys[frame["key_id"]] = key = Fernet(base64.b64decode(frame["key"]))
                    case "chat_message":
                        print(f"{frame['username']}: {keys[frame['key_id']].decrypt(frame['content']).decode()}", flush=True)
                        register["resume"][room] = {"epoch": head["epoch"], "seq": frame["seq"]}
                    case "gap":
                        print(f"messages are missing: {text}", file=sys.stderr)
                        register["resume"][room] = {"epoch": frame["epoch"], "seq": frame["next"] - 1}
                    case "ack":
                        unsent.pop(frame["id"], None)
                        in_flight.discard(frame["id"])
                    case "error" if frame["temporary"] and "id" in frame:
                        await asyncio.sleep(frame.get("retry_after_ms", 100) / 1000)
                        in_flight.discard(frame["id"])
                    case "error" if not frame["temporary"]:
                        sys.exit(f"{frame['message']} ({frame['code']})")
                if not unsent:
                    return
                for id in [id for id in unsent if keys and id not in in_flight][: window - len(in_flight)]:
                    content = key.encrypt(unsent[id].encode()).decode()
                    await socket.send(json.dumps({"type": "chat_message", "room": room, "id": id, "content": content}))
                    in_flight.add(id)
        except ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code not in (1001, 1011, 1012, 1013):
                sys.exit(f"closed for good: {closed.rcvd}")

asyncio.run(main(*sys.argv[1:4]))
