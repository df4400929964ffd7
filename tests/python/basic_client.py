"""A client of the basic protocol, written like the existing ones.

Usage: basic_client.py URL NAME MESSAGE. Sends MESSAGE, prints every received message as "name: text", and exits after
its own. If $CHAT_ACCESS_TOKEN is set, it sends that access token in the register.
"""

import asyncio
import base64
import json
import os
import sys
from datetime import datetime

import websockets
from cryptography.fernet import Fernet


async def main(url, name, message):
    async with websockets.connect(url) as socket:
        register = {"type": "register", "username": name}
        if "CHAT_ACCESS_TOKEN" in os.environ:
            register["access_token"] = os.environ["CHAT_ACCESS_TOKEN"]
        await socket.send(json.dumps(register))
        cipher = None
        async for raw in socket:
            data = json.loads(raw)
            kind = data["type"]
            assert kind in ("encryption_key", "user_joined", "user_left", "user_list", "chat_message", "error"), kind
            if kind == "encryption_key":
                cipher = Fernet(base64.b64decode(data["key"]))
            elif kind == "user_list":
                token = cipher.encrypt(message.encode()).decode()
                await socket.send(json.dumps({"type": "chat_message", "content": token}))
            elif kind == "chat_message":
                # fromisoformat of Python 3.7 reads three or six digits and no Z.
                stamp = data["timestamp"].replace("Z", "+00:00")
                assert len(stamp.split(".")[1].split("+")[0]) in (3, 6)
                datetime.fromisoformat(stamp)
                text = cipher.decrypt(data["content"].encode()).decode()
                print(f"{data['username']}: {text}", flush=True)
                if data["username"] == name and text == message:
                    return


asyncio.run(asyncio.wait_for(main(*sys.argv[1:4]), 30))
