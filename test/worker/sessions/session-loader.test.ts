import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { type FileIdentity, stampOf } from '../../../dist/common/files/file-stamp.js';
import type { ModelReference } from '../../../dist/contracts/model-reference.js';
import { HashMemory, hashMemory } from '../../../dist/protocol/hash-memory.js';
import { QueueCounters, type ReplicaCounters } from '../../../dist/protocol/queue-counters.js';
import { OnnxSessionLoader, type SessionLoaderEnvironment } from '../../../dist/worker/sessions/session-loader.js';
import { FileHashes } from '../../../dist/worker/weights/file-hashes.js';
import { SharedWeights } from '../../../dist/worker/weights/shared-weights.js';
import { WeightStore } from '../../../dist/worker/weights/weight-store.js';
import { directory } from '../../support/directories.js';
import { changeMode, writeLongAgo } from '../../support/file-times.js';
import { denseModel } from '../../support/onnx-models.js';

const ONE = 'a'.repeat(64);

/** Finds other contents at each look. */
class ChangingHashes extends FileHashes {
  #looks = 0;

  override async of(): Promise<string> {
    this.#looks += 1;
    return String(this.#looks).repeat(64).slice(0, 64);
  }
}

let path: string;
let store: string;
let reasons: string[];
let model: ModelReference;

const stampNow = () => stampOf(statSync(path, { bigint: true }));
const hashes = () => new FileHashes(new HashMemory(hashMemory(64)));

function environment(own: FileHashes): SessionLoaderEnvironment {
  const counters = new QueueCounters(1).take()?.counters as ReplicaCounters;
  const shared = new SharedWeights({
    ...{ counters, hashes: own, store: new WeightStore({ directory: store, maxBytes: 2 ** 30 }, hashes()) },
    compiled: () => undefined,
  });
  return { counters, hashes: own, shared, availableMemory: () => 0, notShared: (_, reason) => reasons.push(reason) };
}

const loaderWith = (own: FileHashes) => new OnnxSessionLoader({ session: {}, weights: 'shared' }, environment(own));

beforeEach(() => {
  path = join(directory(), 'a.onnx');
  store = directory();
  reasons = [];
  const bytes = denseModel(600, 1);
  writeLongAgo(path, bytes);
  const files = [{ path, stamp: stampNow(), sha256: undefined }];
  model = { id: 'a', key: 'a@1', path, bytes: bytes.byteLength, files };
});

it('stores no weights of files that changed while they were compiled', async () => {
  const session = await loaderWith(new ChangingHashes(new HashMemory(hashMemory(64)))).load(model);
  await session.release();
  expect([reasons, readdirSync(store)]).toEqual([['its files changed while it was compiled'], []]);
});

it('says how much of a load the next one does not take', async () => {
  const load = async () => {
    const startedAt = performance.now();
    const { preparationMs } = await loaderWith(hashes()).load(model);
    return { preparationMs, loadMs: performance.now() - startedAt };
  };
  const first = await load();
  // One of them may be held up by something else.
  const others = [await load(), await load(), await load()].map(({ preparationMs }) => preparationMs);
  expect(first.preparationMs).toBeGreaterThan(Math.min(...others));
  expect(first.preparationMs).toBeLessThan(first.loadMs);
  const own = new OnnxSessionLoader({ session: {}, weights: 'private' }, environment(hashes()));
  expect((await own.load(model)).preparationMs).toBe(0);
});

it('loads no other file than the registered one, unless its contents are known to be the same', async () => {
  const loader = loaderWith(hashes());
  await (await loader.load(model)).release();
  const sha256 = await hashes().of(path);
  changeMode(path);
  const known = (hash: string | undefined) => ({
    ...model,
    files: model.files?.map((file) => ({ ...file, sha256: hash })),
  });
  const refusal = { code: 'MODEL_LOAD_FAILED', retryable: true, message: expect.stringContaining('has changed since') };
  await expect(loader.load(known(undefined))).rejects.toMatchObject(refusal);
  await expect(loader.load(known(ONE))).rejects.toMatchObject(refusal);
  await (await loader.load(known(sha256))).release();
  await (await loader.load({ ...model, sha256: { [path]: sha256 } })).release();
  // As where a link leads to another file of the same size and times.
  const elsewhere = (file: FileIdentity) => ({ ...file, stamp: { ...stampNow(), ino: file.stamp.ino + 1n } });
  const moved = (hash: string) => ({ ...model, files: known(hash).files?.map(elsewhere) });
  await expect(loader.load(moved(ONE))).rejects.toMatchObject(refusal);
  await (await loader.load(moved(sha256))).release();
  writeLongAgo(path, 'no model');
  await expect(loader.load(known(sha256))).rejects.toMatchObject(refusal);
  await expect(loader.load({ ...known(sha256), path: '/nowhere', files: [] })).rejects.toMatchObject({
    retryable: false,
  });
});
