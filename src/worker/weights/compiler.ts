/** The program of the process that compiles a model for the weight store, so that no replica and no caller waits for it. */
import { writeFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { InfermuxError, messageOf } from '../../common/errors.js';
import type { CompileMessage, CompileRequest, CompileResult } from '../../protocol/compile-messages.js';
import { HashMemory, hashMemory } from '../../protocol/hash-memory.js';
import { QueueCounters } from '../../protocol/queue-counters.js';
import { sessionOptions } from '../sessions/session-loader.js';
import { FileHashes } from './file-hashes.js';
import { SharedWeights } from './shared-weights.js';
import { rememberedHashes, WeightStore } from './weight-store.js';

/** The files of one model and of its entry. */
const HASHED_FILES = 1_024;

const memory = new HashMemory(hashMemory(HASHED_FILES));
const hashes = new FileHashes(memory);

function send(message: CompileMessage): Promise<void> {
  return new Promise((resolve) => {
    // When the engine is gone, nobody needs the message.
    if (process.connected) process.send?.(message, undefined, {}, () => resolve());
    else resolve();
  });
}

async function compile({ model, contentBytes, session, weightStore }: CompileRequest): Promise<CompileResult> {
  const counters = new QueueCounters(1).take()?.counters;
  if (counters === undefined) throw new Error('there are no counters');
  let compileMs = 0;
  const building = (paths: readonly string[]) => send({ kind: 'building', paths });
  const weights = new SharedWeights({
    ...{ counters, hashes },
    // Whoever builds it may be as slow as this process. The engine ends one that takes too long.
    store: new WeightStore(weightStore, hashes, { building, longestWaitMs: Number.POSITIVE_INFINITY }),
    compiled: async (_model, milliseconds) => {
      compileMs = milliseconds;
      // The process may have been left behind during the compilation, which lets it notice nothing.
      for (let turn = 0; turn < 2; turn += 1) await nextTurn();
      checkGoOn();
    },
  });
  const contents = contentBytes === undefined ? undefined : await readContents(contentBytes);
  const whole = { ...model, contents };
  const { declined } = await weights.find(whole, sessionOptions(whole, { session }), checkGoOn);
  if (declined !== undefined) return { kind: 'declined', reason: declined };
  const found = memory.entries();
  // A list that cannot be written costs the next engine a reading of the files.
  await rememberedHashes(weightStore)
    .add(found, building)
    .catch(() => undefined);
  return { kind: 'ready', hashes: found, compileMs };
}

function isOfStore(error: unknown): boolean {
  return error instanceof InfermuxError && error.code === 'FAILED_PRECONDITION';
}

function checkGoOn(): void {
  if (!process.connected) throw new Error('the engine is gone');
}

async function readContents(bytes: number): Promise<SharedArrayBuffer> {
  const contents = new SharedArrayBuffer(bytes);
  const view = new Uint8Array(contents);
  let at = 0;
  for await (const chunk of process.stdin) {
    view.set(chunk as Uint8Array, at);
    at += (chunk as Uint8Array).length;
  }
  return contents;
}

/** Makes Linux end this process before any other, should the machine run out of memory. */
function preferAsVictim(): void {
  if (process.platform !== 'linux') return;
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // A sandbox may forbid it.
  }
}

preferAsVictim();
// A terminal or a service manager tells all processes of the application to end. The engine ends this one: by then it
// may have work to finish, or to tidy up.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);
process.once('message', (request) => {
  compile(request as CompileRequest)
    .catch((error): CompileResult => ({ kind: isOfStore(error) ? 'failed' : 'postponed', reason: messageOf(error) }))
    .then(send)
    .finally(() => {
      if (process.connected) process.disconnect();
    });
});
