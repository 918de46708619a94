// A server of models, with a little latency. It is the other end of a network: it goes behind what is measured.
import { createServer } from 'node:http';
import { setPriority } from 'node:os';
import { piecesOf } from './models.mjs';

const [latencyMs, paddingBytes] = process.argv.slice(2).map(Number);
const downloads = new Map();

setPriority(19);
createServer(({ url = '/' }, response) => {
  if (url === '/downloads') {
    response.end(JSON.stringify([...downloads.values()]));
    downloads.clear();
    return;
  }
  downloads.set(url, 1 + (downloads.get(url) ?? 0));
  setTimeout(() => {
    const parts = piecesOf(Number(url.slice(2)), paddingBytes);
    response.writeHead(200, { 'content-length': parts.reduce((sum, { length }) => sum + length, 0), etag: `"${url}"` });
    for (const part of parts) response.write(part);
    response.end();
  }, latencyMs);
}).listen(0, '127.0.0.1', function listening() {
  process.stdout.write(`${this.address().port}\n`);
});
