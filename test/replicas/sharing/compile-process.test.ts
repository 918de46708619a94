import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../dist/common/clock.js';
import type { ModelReference } from '../../../dist/contracts/model-reference.js';
import { HashMemory, hashMemory } from '../../../dist/protocol/hash-memory.js';
import { QueueCounters, type ReplicaCounters } from '../../../dist/protocol/queue-counters.js';
import { type CompileAnswer, CompileProcess } from '../../../dist/replicas/sharing/compile-process.js';
import { OnnxSessionLoader } from '../../../dist/worker/sessions/session-loader.js';
import { FileHashes } from '../../../dist/worker/weights/file-hashes.js';
import { SharedWeights } from '../../../dist/worker/weights/shared-weights.js';
import { WeightStore } from '../../../dist/worker/weights/weight-store.js';
import { directory } from '../../support/directories.js';
import { denseModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

/** 18 MB, so that a replica that has two of them is worth a process. */
const bytes = denseModel(2_100, 1);
const models = directory({ 'dense.onnx': bytes, 'broken.onnx': 'no model, but long enough: '.repeat(100_000) });
const path = join(models, 'dense.onnx');
const inFile: ModelReference = { id: 'm', key: 'm@1', path, bytes: bytes.length, format: 'onnx' };
const contents = new SharedArrayBuffer(bytes.length);
new Uint8Array(contents).set(bytes);

let store: string;

beforeEach(() => {
  store = join(directory(), 'store');
});

const start = (model = inFile, directoryOf = store) =>
  new CompileProcess(model, { session: {}, weightStore: { directory: directoryOf, maxBytes: 2 ** 30 } }, systemClock);

/** Loads the model as a replica does that has been told of these hashes. */
async function weightsOf(model: ModelReference, answer: CompileAnswer): Promise<string> {
  const memory = new HashMemory(hashMemory(64));
  for (const [file, hash] of answer.kind === 'ready' ? answer.hashes : []) memory.set(file, hash);
  const hashes = new FileHashes(memory);
  const counters = new QueueCounters(1).take()?.counters as ReplicaCounters;
  const weightStore = new WeightStore({ directory: store, maxBytes: 2 ** 30 }, hashes);
  const shared = new SharedWeights({ counters, hashes, store: weightStore, compiled: () => undefined });
  const notShared = (_: unknown, reason: string) => expect.fail(reason);
  const loader = new OnnxSessionLoader(
    { session: {}, weights: 'auto' },
    {
      ...{ counters, hashes, shared, notShared },
      availableMemory: () => 0,
    },
  );
  const session = await loader.load(model);
  await session.release();
  return session.weights;
}

const names = () => (existsSync(store) ? readdirSync(store) : []);
const isBuilding = () => names().some((name) => name.endsWith('.tmp'));

/** Returns the id of the process that builds an entry. */
function builder(): number {
  const lock = names().find((name) => name.endsWith('.lock')) as string;
  return JSON.parse(readFileSync(join(store, lock), 'utf8')).pid;
}

const isAlive = (pid: number) => existsSync(`/proc/${pid}`);

describe('the process that compiles a model', () => {
  it.each<[string, ModelReference]>([
    ['in a file', inFile],
    ['in memory', { ...inFile, path: 'm (in memory)', contents }],
  ])('lets later loads of a model %s map its weights at once, and no load before', async (_, model) => {
    expect(await weightsOf(model, { kind: 'declined', reason: '' })).toBe('private');
    const answer = await start(model).answer;
    expect(answer.kind).toBe('ready');
    expect(await weightsOf(model, answer)).toBe('shared');
    // Without the hashes the entry would have to be read first.
    expect(await weightsOf(model, { kind: 'declined', reason: '' })).toBe('private');
    // The next process looks at the entry, which need not be built again.
    expect(await start(model).answer).toMatchObject({ kind: 'ready', compileMs: 0 });
    expect(names().filter((name) => !name.includes('.'))).toHaveLength(1);
  });

  it.skipIf(process.platform !== 'linux')('leaves the cores to everybody else', async () => {
    const compilation = start();
    await until(isBuilding);
    expect(getPriority(builder())).toBe(19);
    await compilation.close();
  });

  it('leaves nothing when it is ended', async () => {
    const compilation = start();
    await until(isBuilding);
    await compilation.close();
    expect([await compilation.answer, names()]).toEqual([{ kind: 'died', reason: 'its process ended: SIGKILL' }, []]);
  });

  it('leaves nothing when something else ends it, at whatever moment', async () => {
    const isReached = [
      isBuilding,
      () => names().some((name) => name.endsWith('.tmp') && readdirSync(join(store, name)).includes('weights.bin')),
    ];
    for (const reached of isReached) {
      const compilation = start();
      await until(reached);
      process.kill(builder(), 'SIGKILL');
      expect(await compilation.answer).toEqual({ kind: 'died', reason: 'its process ended: SIGKILL' });
      expect(names()).toEqual([]);
    }
  });

  it('says that the store cannot be used, or that the model had better not be in it', async () => {
    expect(await start(inFile, join(path, 'no folder')).answer).toEqual({
      kind: 'failed',
      reason: expect.stringContaining('ENOTDIR'),
    });
    const gone = { ...inFile, path: join(models, 'gone.onnx') };
    expect(await start(gone).answer).toEqual({ kind: 'postponed', reason: expect.stringContaining('ENOENT') });
    const broken = { ...inFile, path: join(models, 'broken.onnx') };
    expect(await start(broken).answer).toEqual({
      kind: 'declined',
      reason: expect.stringContaining('it could not be compiled: model "m": '),
    });
  });

  it('needs no list of hashes, which is for the next engine alone', async () => {
    mkdirSync(join(store, 'hashes.json'), { recursive: true, mode: 0o700 });
    expect((await start().answer).kind).toBe('ready');
  });

  it('ends at once where its settings cannot be sent', async () => {
    const settings = { session: { extra: new SharedArrayBuffer(1) }, weightStore: { directory: store, maxBytes: 1 } };
    expect(await new CompileProcess(inFile, settings, systemClock).answer).toEqual({
      kind: 'died',
      reason: expect.stringContaining('it could not be told what to compile: '),
    });
  });

  it.each([
    ['ends', 'exit'],
    ['is killed', 'SIGKILL'],
    ['is interrupted at the terminal', 'SIGINT'],
  ])('ends when the process of the engine %s, and leaves nothing', async (_, how) => {
    const support = fileURLToPath(new URL('../../support/sharing-child.mjs', import.meta.url));
    const child = spawn(process.execPath, [support, path, store, how === 'exit' ? 'exit' : 'wait'], {
      stdio: ['pipe', 'ignore', 'inherit'],
      detached: true,
    });
    const exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)));
    await until(isBuilding);
    const pid = builder();
    const own = child.pid as number;
    if (how === 'exit') child.stdin?.write('end\n');
    else if (how === 'SIGKILL') process.kill(own, how);
    // As a terminal does: the whole group gets it.
    else process.kill(-own, how as NodeJS.Signals);
    expect(await exited).toBe(how === 'exit' ? 3 : how);
    await until(() => !isAlive(pid));
    expect(names().filter((name) => name.includes('.'))).toEqual([]);
  });
});
