import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a file of the server is, and what goes wrong with it. */
export interface ServedFile {
  body: Uint8Array;
  etag?: string | undefined;
  lastModified?: string | undefined;
  /** Answers this instead. */
  status?: number;
  location?: string;
  /** Ends the connection after so many bytes of the body, for so many answers. */
  cutAfter?: number;
  cuts?: number;
  /** Says that the body has so many bytes. */
  saysLength?: number;
  /** Sends the body without saying its length. */
  isChunked?: boolean;
  /** Milliseconds before the answer, and between two pieces of it. */
  delayMs?: number;
  pieceMs?: number;
  pieceBytes?: number;
  /** Answers nothing. */
  isSilent?: boolean;
  /** Ignores `Range` and `If-Range`. */
  ignoresRange?: boolean;
  /** Answers a range whether or not it is of this file. */
  ignoresIfRange?: boolean;
  /** Called with each request, before the answer. */
  asked?: (request: IncomingMessage) => void;
}

/** A server of models on loopback, which does what a test says. */
export class ModelServer {
  readonly files = new Map<string, ServedFile>();
  /** Method, path and range of each request. */
  readonly requests: string[] = [];
  /** Headers of each request. */
  readonly headers: IncomingMessage['headers'][] = [];
  /** Bytes of bodies that were sent. */
  sent = 0;
  readonly #server: Server = createServer((request, response) => void this.#answer(request, response));

  static async start(): Promise<ModelServer> {
    const server = new ModelServer();
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    server.base = `http://127.0.0.1:${(server.#server.address() as AddressInfo).port}/`;
    return server;
  }

  base = '';

  url(path: string): URL {
    return new URL(path, this.base);
  }

  serve(path: string, body: Uint8Array, more: Partial<ServedFile> = {}): ServedFile {
    const etag = `"${createHash('sha256').update(body).digest('hex').slice(0, 16)}"`;
    const file = { body, etag, ...more };
    this.files.set(`/${path}`, file);
    return file;
  }

  /** Requests for the path. */
  count(path: string): number {
    return this.requests.filter((request) => request.split(' ')[1] === `/${path}`).length;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURI((request.url ?? '').split('?')[0] ?? '');
    this.requests.push(`${request.method} ${path} ${request.headers.range ?? ''}`.trim());
    this.headers.push(request.headers);
    const file = this.files.get(path);
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    file.asked?.(request);
    if (file.isSilent === true) return;
    if (file.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, file.delayMs));
    const { body, etag, lastModified, status, location } = file;
    const headers: Record<string, string | number> = {
      ...(etag && { etag }),
      ...(lastModified && { 'last-modified': lastModified }),
      ...(location && { location }),
    };
    if (status !== undefined) {
      response.writeHead(status, headers).end();
      return;
    }
    const isSame =
      etag === undefined
        ? lastModified !== undefined && request.headers['if-modified-since'] === lastModified
        : request.headers['if-none-match'] === etag;
    if (isSame) {
      response.writeHead(304, headers).end();
      return;
    }
    const start = this.#startOf(request, file);
    const rest = body.subarray(start ?? 0);
    if (start !== undefined) headers['content-range'] = `bytes ${start}-${body.length - 1}/${body.length}`;
    if (file.isChunked !== true) headers['content-length'] = file.saysLength ?? rest.length;
    response.writeHead(start === undefined ? 200 : 206, headers);
    await this.#send(response, rest, file);
  }

  #startOf({ headers }: IncomingMessage, { body, etag, lastModified, ...file }: ServedFile): number | undefined {
    const start = /^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1];
    if (start === undefined || file.ignoresRange === true) return undefined;
    const validator = headers['if-range'];
    if (validator !== undefined && validator !== (etag ?? lastModified) && file.ignoresIfRange !== true)
      return undefined;
    return Number(start) < body.length ? Number(start) : undefined;
  }

  async #send(response: ServerResponse, rest: Uint8Array, file: ServedFile): Promise<void> {
    const isCut = file.cutAfter !== undefined && (file.cuts ?? 1) > 0;
    const body = isCut ? rest.subarray(0, file.cutAfter) : rest;
    const { pieceBytes = body.length || 1 } = file;
    for (let start = 0; start < body.length && !response.destroyed; start += pieceBytes) {
      const piece = body.subarray(start, start + pieceBytes);
      this.sent += piece.length;
      await new Promise((resolve) => response.write(piece, resolve));
      if (file.pieceMs !== undefined) await new Promise((resolve) => setTimeout(resolve, file.pieceMs));
    }
    if (!isCut) {
      response.end();
      return;
    }
    file.cuts = (file.cuts ?? 1) - 1;
    // What was sent is read by then.
    await new Promise((resolve) => setTimeout(resolve, 10));
    response.destroy();
  }
}
