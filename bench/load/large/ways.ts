import { writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { createEngine } from '../../../dist/index.js';
import { THREADS } from '../contenders.js';
import type { BenchModel } from '../models.js';

/** How a picture gets to a model. */
export const WAYS = [
  'Piscina (copied)',
  'Piscina (transferred)',
  'infermux (run)',
  'infermux (transfer)',
  'infermux (allocate)',
  'Piscina (transferred, from a file)',
  'infermux (transfer, from a file)',
  'infermux (allocate, from a file)',
] as const;
export type Way = (typeof WAYS)[number];

export interface Ways {
  /** Sends a picture, and resolves when it is answered. A way from a file reads it there. */
  send(way: Way, picture: Float32Array): Promise<unknown>;
  close(): Promise<void>;
}

/** Starts a Piscina pool and an engine with the model, each with two threads. */
export async function startWays(model: BenchModel, folder: string): Promise<Ways> {
  const { id, path, dims, input: name } = model;
  const filename = fileURLToPath(new URL('../peers/piscina-worker.mjs', import.meta.url));
  const threads = { minThreads: THREADS, maxThreads: THREADS };
  const pool = new Piscina({ filename, ...threads, workerData: { ...model, threads: 1 } });
  const engine = await createEngine({ models: { [id]: path }, replicas: THREADS, maxQueuedRequests: -1 });
  await engine.models.load(id, { replicas: THREADS });
  const file = await pictureFile(`${folder}/${id}/picture`, dims);

  const transferToPool = (data: Float32Array) => pool.run({ data }, { transferList: [data.buffer as ArrayBuffer] });
  const run = (data: Float32Array, transfer = false) => engine.run(id, { [name]: { data, dims } }, { transfer });
  const ways: Record<Way, (picture: Float32Array) => Promise<unknown>> = {
    'Piscina (copied)': (data) => pool.run({ data }),
    'Piscina (transferred)': (picture) => transferToPool(picture.slice()),
    'infermux (run)': (picture) => run(picture),
    'infermux (transfer)': (picture) => run(picture.slice(), true),
    'infermux (allocate)': (picture) => {
      const tensor = engine.allocate('float32', dims);
      tensor.data.set(picture);
      return engine.run(id, { [name]: tensor });
    },
    'Piscina (transferred, from a file)': async ({ byteLength }) => transferToPool(await readNew(file, byteLength)),
    'infermux (transfer, from a file)': async ({ byteLength }) => run(await readNew(file, byteLength), true),
    'infermux (allocate, from a file)': async () => {
      const tensor = engine.allocate('float32', dims);
      const { buffer, byteOffset, byteLength } = tensor.data;
      await file.read(new Uint8Array(buffer, byteOffset, byteLength), 0, byteLength, 0);
      return engine.run(id, { [name]: tensor });
    },
  };
  return {
    send: (way, picture) => ways[way](picture),
    close: async () => {
      await file.close();
      await engine.close();
      await pool.destroy();
    },
  };
}

function pictureFile(path: string, dims: readonly number[]): Promise<FileHandle> {
  const elements = dims.reduce((product, size) => product * size, 1);
  writeFileSync(path, new Uint8Array(new Float32Array(elements).fill(0.5).buffer));
  return open(path);
}

/** Reads a picture into new memory. A thread of Node's pool does it, as a decoder would. */
async function readNew(file: FileHandle, bytes: number): Promise<Float32Array> {
  const memory = Buffer.allocUnsafeSlow(bytes);
  await file.read(memory, 0, bytes, 0);
  return new Float32Array(memory.buffer);
}
