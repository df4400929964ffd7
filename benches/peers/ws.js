// Sends every text to all clients except its sender, as a comparison for benches/fanout.
const { WebSocketServer } = require(process.argv[3]);

const options = { host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false };
const server = new WebSocketServer({ ...options, backlog: 4096 });
server.on("connection", (from) => {
  from.on("message", (text) => {
    for (const to of server.clients) {
      if (to !== from) to.send(text, { binary: false });
    }
  });
});
