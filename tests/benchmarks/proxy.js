// What the gateway is held against: node's http-proxy with kept connections. `node proxy.js <folder of http-proxy> <upstream>...` prints its port.

const http = require("node:http");
const [folder, ...targets] = process.argv.slice(2);
const proxy = require(folder).createProxyServer({ agent: new http.Agent({ keepAlive: true }), xfwd: true });
let turn = 0;

proxy.on("error", (_error, _request, response) => response.writeHead(502, { "content-length": 0 }).end());

const server = http.createServer((request, response) => proxy.web(request, response, { target: targets[turn++ % targets.length] }));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
