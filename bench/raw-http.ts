/** A server that reads a body and answers 32 bytes: bare `node:http`, or bare Express. Prints its port. */
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';

import express from 'express';

const answer: RequestListener = (request, response) => {
  request.resume().on('end', () => {
    response.writeHead(200, { 'Content-Length': 32 }).end(Buffer.alloc(32));
  });
};

const [which = 'http'] = process.argv.slice(2);
const app = express();
app.post('/v1/keys/:key/unwrap', answer);
const server = createServer(which === 'express' ? app : answer);
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${String((server.address() as AddressInfo).port)}\n`);
});
process.once('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
