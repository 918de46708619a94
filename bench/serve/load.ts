import { type ChildProcess, execFile, execFileSync, fork } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** A load of one kind, for `h2load` of Debian's nghttp2-client. */
export interface Load {
  readonly url: string;
  /** The file with the body of each request. */
  readonly file: string;
  readonly headers?: readonly string[];
  /** Connections of HTTP/1.1; undefined for one of HTTP/2. */
  readonly connections?: number;
  /** Streams at once on a connection of HTTP/2. */
  readonly streams?: number;
}

/** The heap of a server that was idle has shrunk, and takes seconds of load to grow again. */
const WARM_UP_S = 5;

/** Whether the program that makes the load is there. */
export function hasH2load(): boolean {
  try {
    execFileSync('h2load', ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}

function argumentsOf({ url, file, headers = [], connections, streams = 1 }: Load): string[] {
  const kind = connections === undefined ? ['-c1', `-m${streams}`] : ['--h1', `-c${connections}`];
  return ['-t1', ...kind, '-d', file, ...headers.flatMap((header) => ['-H', header]), url];
}

/** Requests per second that are answered with success, in so many seconds after a warm-up. */
export async function requestsPerSecond(load: Load, seconds = 2): Promise<number> {
  const args = [`-D${seconds}`, `--warm-up-time=${WARM_UP_S}`, ...argumentsOf(load)];
  const { stdout } = await promisify(execFile)('h2load', args);
  const [, succeeded, failed] = /(\d+) succeeded, (\d+) failed/.exec(stdout) ?? [];
  if (succeeded === undefined || failed !== '0') throw new Error(`h2load: ${stdout}`);
  const [, ok] = /status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx/.exec(stdout) ?? [];
  if (ok === undefined) throw new Error(`not all requests were answered with success: ${stdout}`);
  return Number(/finished in [\d.]+s, ([\d.]+) req\/s/.exec(stdout)?.[1]);
}

/** Each sends on all its connections at the same moments. One for each connection would take the server's time. */
const PROCESSES = 32;

/**
 * The 99th percentile, in milliseconds, of the times of requests that come at this rate, after a warm-up. Several processes send them, which
 * begin at random moments: one alone would send on all connections at once.
 */
export async function percentile99(load: Load & { connections: number }, rate: number, seconds = 4): Promise<number> {
  const each = rate / load.connections;
  const connections = load.connections / PROCESSES;
  const periodMs = 1_000 / each;
  const logs = Array.from({ length: PROCESSES }, (_, index) => `${load.file}.${index}.log`);
  await Promise.all(
    logs.map(async (log) => {
      rmSync(log, { force: true });
      await sleep(Math.random() * periodMs);
      const args = [`-D${WARM_UP_S + seconds}`, `--rps=${each.toFixed(2)}`, `--log-file=${log}`];
      await promisify(execFile)('h2load', [...args, ...argumentsOf({ ...load, connections })]);
    }),
  );
  // Microseconds: when it began, the status, and how long it took.
  const lines = logs.flatMap((log) => readFileSync(log, 'utf8').trim().split('\n'));
  const read = lines.map((line) => line.split('\t').map(Number) as [number, number, number]);
  const firstAt = read.reduce((least, [at]) => Math.min(least, at), Number.POSITIVE_INFINITY);
  const times = read.filter(([at]) => at > firstAt + WARM_UP_S * 1e6).map(([, , took]) => took / 1_000);
  times.sort((left, right) => left - right);
  return times[Math.floor(times.length * 0.99)] as number;
}

/** Opens so many connections that send nothing, in portions. */
export async function openIdle(port: number, count: number): Promise<readonly Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const some = Array.from({ length: Math.min(200, count - sockets.length) }, () => connect(port, '127.0.0.1'));
    await Promise.all(
      some.map(
        (socket) =>
          new Promise<void>((resolve, reject) => {
            socket.once('connect', resolve).once('error', reject);
          }),
      ),
    );
    sockets.push(...some);
  }
  return sockets;
}

/** Sends a request on each connection, in portions, and waits for the answers. */
export async function askOnce(sockets: readonly Socket[], path: string): Promise<void> {
  for (let start = 0; start < sockets.length; start += 200) {
    const answered = sockets.slice(start, start + 200).map(
      (socket) =>
        new Promise<void>((resolve, reject) => {
          socket.once('data', () => resolve()).once('error', reject);
          socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
        }),
    );
    await Promise.all(answered);
  }
}

/** A process of this bench that tells what it measures. */
export class Child {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start<T>(program: string, argument: string): Promise<readonly [Child, T]> {
    const path = fileURLToPath(new URL(program, import.meta.url));
    const child = fork(path, [argument], { execArgv: ['--expose-gc'], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const own = new Child(child);
    return [own, await own.#next<T>()];
  }

  async ask<T>(what: string): Promise<T> {
    const answer = this.#next<T>();
    this.#child.send(what);
    return answer;
  }

  stop(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  #next<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`a process of the bench ended with ${code}`));
      this.#child.once('exit', ended);
      this.#child.once('message', (message) => {
        this.#child.off('exit', ended);
        resolve(message as T);
      });
    });
  }
}
