// printf 'hola\n' | node pipe.mjs ws://127.0.0.1:8765 ops ana        # $CHAT_ACCESS_TOKEN proves the user
import { createInterface } from "node:readline";
import { Chat } from "./chat.mjs";

const [url, room, username] = process.argv.slice(2);
const chat = new Chat(url, { room, username, access_token: process.env.CHAT_ACCESS_TOKEN });
chat.onmessage = ({ username, text }) => console.log(`${username}: ${text}`);
for await (const line of createInterface({ input: process.stdin })) await chat.send(line);
chat.onend = () => {};
chat.close();
