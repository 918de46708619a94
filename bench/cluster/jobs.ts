import { writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { jetstreamManager } from '@nats-io/jetstream';
import { collectResults, type JobEnd } from '../../dist/cluster/jobs/collect-results.js';
import type { JobSource, NewJob } from '../../dist/cluster/jobs/job-source.js';
import { streamsOf } from '../../dist/cluster/jobs/job-streams.js';
import { submitJobs } from '../../dist/cluster/jobs/submit-jobs.js';
import { connectNats } from '../../dist/cluster/nats/nats-connection.js';
import { createEngine } from '../../dist/index.js';
import { NatsServer } from '../../test/support/cluster/nats.js';
import { type Program, startProgram, until } from '../../test/support/cluster/programs.js';
import { directory } from '../../test/support/directories.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CLI = `${ROOT}dist/cli/main.js`;
/** The jobs are for it that are to survive, and for the other one those that are measured. */
const MODEL = 'digits-mlp';
const HEAVIER = 'digits-cnn';
const STREAM = 'jobs';
const WIDTH = 64;
/** Different inputs: each job has one of them. */
const KINDS = 97;

const rowsOf = (kind: number, rows: number) =>
  Float32Array.from({ length: rows * WIDTH }, (_, index) => (kind * 7 + index) % 16);

/** Of the file of rows. */
const HEADER_BYTES = 128;

/** Jobs that name rows of a file in place of having them. */
function referringJobs(count: number, rows: number, folder: string): JobSource {
  const header = `${`{'descr': '<f4', 'fortran_order': False, 'shape': (${KINDS * rows}, ${WIDTH}), }`.padEnd(117)}\n`;
  const head = Buffer.concat([Buffer.from([0x93]), Buffer.from('NUMPY'), Buffer.from([1, 0, header.length, 0])]);
  const data = Array.from({ length: KINDS }, (_, kind) => Buffer.from(rowsOf(kind, rows).buffer));
  writeFileSync(`${folder}/rows.npy`, Buffer.concat([head, Buffer.from(header), ...data]));
  async function* jobs(): AsyncGenerator<NewJob> {
    for (let index = 0; index < count; index += 1) {
      const from = (index % KINDS) * rows;
      const input = { name: 'image', parameters: { file: 'rows.npy', rows: [from, from + rows] } };
      const body = Buffer.from(JSON.stringify({ parameters: { binary_data_output: true }, inputs: [input] }));
      yield { id: String(index), model: HEAVIER, body, jsonBytes: undefined };
    }
  }
  return { count, jobs };
}

function jobsOf(count: number, rows: number, model: string): JobSource {
  const bodies = Array.from({ length: KINDS }, (_, kind) => {
    const data = Buffer.from(rowsOf(kind, rows).buffer);
    const head = {
      name: 'image',
      datatype: 'FP32',
      shape: [rows, WIDTH],
      parameters: { binary_data_size: data.length },
    };
    const json = Buffer.from(JSON.stringify({ parameters: { binary_data_output: true }, inputs: [head] }));
    return { body: Buffer.concat([json, data]), jsonBytes: json.length };
  });
  async function* jobs(): AsyncGenerator<NewJob> {
    for (let index = 0; index < count; index += 1) {
      yield { id: String(index), model, ...(bodies[index % KINDS] as (typeof bodies)[number]) };
    }
  }
  return { count, jobs };
}

const startWorker = (nats: NatsServer, replicas: number, node: string, files?: string): Program => {
  const own = [
    '--nats',
    nats.url,
    '--stream',
    STREAM,
    '--replicas',
    String(replicas),
    '--node-name',
    node,
    ...(files === undefined ? [] : ['--files', files]),
  ];
  return startProgram([process.execPath, CLI, 'worker', `${ROOT}native-models`, ...own, '--log-level', 'warn']);
};

export interface SurvivalOutcome {
  readonly jobs: number;
  readonly results: number;
  readonly dead: number;
  /** Results that are not what the model gives for the input. */
  readonly wrong: number;
  /** Messages in the stream of results beyond one for each job. */
  readonly doubled: number;
  readonly kills: number;
  readonly seconds: number;
}

/** Jobs whose workers are killed all the time, by a server that is started again twice. */
export async function survival(count: number, killMs = 2_000): Promise<SurvivalOutcome> {
  const began = performance.now();
  const nats = await NatsServer.start();
  const workers = [0, 1].map((number) => startWorker(nats, 1, `w${number}`));
  let [isOver, kills] = [false, 0];
  const killing = (async () => {
    while (!isOver) {
      await sleep(killMs);
      const victim = kills % workers.length;
      workers[victim]?.kill('SIGKILL');
      await workers[victim]?.exited;
      kills += 1;
      if (!isOver) workers[victim] = startWorker(nats, 1, `w${victim}`);
    }
  })();
  const connection = await connectNats(nats.url, 'bench');
  const streams = streamsOf(STREAM);
  const ids = new Map(Array.from({ length: count }, (_, index) => [String(index), undefined]));
  const ends: JobEnd[] = [];
  const restarting = (async () => {
    for (const share of [1 / 3, 2 / 3]) {
      await until(() => ends.length >= share * count, 'the jobs', 3_600_000);
      await nats.stop('SIGKILL');
      await sleep(500);
      await nats.start();
    }
  })();
  const submitting = submitJobs(connection, streams, 'run', jobsOf(count, 1, MODEL), () => undefined);
  await collectResults(connection, streams, 'run', ids, (end) => void ends.push(end));
  await Promise.all([submitting, restarting]);
  isOver = true;
  await killing;
  for (const worker of workers) worker.kill('SIGTERM');
  await Promise.all(workers.map(({ exited }) => exited));
  const { state } = await (await jetstreamManager(connection)).streams.info(streams.results);
  await connection.close();
  await nats.stop();
  const dead = ends.filter((end) => 'code' in end).length;
  const wrong = await wrongOf(ends);
  const results = ends.length - dead;
  const seconds = (performance.now() - began) / 1_000;
  return { jobs: count, results, dead, wrong, doubled: state.messages - results, kills, seconds };
}

/** Holds the results against those of an engine in this process, which runs each input alone. */
async function wrongOf(ends: readonly JobEnd[]): Promise<number> {
  const engine = await createEngine({ models: `${ROOT}native-models`, replicas: 1, batching: false });
  const expected = new Map<number, Float32Array>();
  for (let kind = 0; kind < KINDS; kind += 1) {
    const { probabilities } = await engine.run(MODEL, { image: { dims: [1, WIDTH], data: rowsOf(kind, 1) } });
    expected.set(kind, probabilities?.data as Float32Array);
  }
  await engine.close();
  const isRight = (end: JobEnd) => {
    if ('code' in end) return true;
    const bytes = Uint8Array.from(end.body.subarray(end.jsonBytes));
    const data = new Float32Array(bytes.buffer);
    return expected
      .get(Number(end.id) % KINDS)
      ?.every((value, index) => Math.abs(value - (data[index] as number)) < 1e-5);
  };
  return ends.filter((end) => !isRight(end)).length;
}

/** Requests per second of an engine that is called directly, and of a worker, in each round. */
export interface JobRates {
  readonly direct: number[];
  readonly jobs: number[];
}

/** Callers of the engine. */
const CALLERS = 128;

/**
 * What the way over the server costs: the same requests, given to an engine of two replicas, and to a worker of two, in short turns,
 * since the speed of a machine that others share changes within seconds. Where jobs name rows of a file, who calls the engine reads
 * them from that file, too.
 *
 * @param count requests in a turn of each.
 */
export async function jobThroughput(
  rounds: number,
  count: number,
  rows: number,
  isReferring: boolean,
): Promise<JobRates> {
  const folder = directory();
  const source = isReferring ? referringJobs(count, rows, folder) : jobsOf(count, rows, HEAVIER);
  const file = isReferring ? await open(`${folder}/rows.npy`) : undefined;
  const direct = await directCalls(count, rows, file);
  const byJobs = await jobsOfWorker(count, source, folder);
  const rates: JobRates = { direct: [], jobs: [] };
  for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
    const [one, other] = [await direct.measure(), await byJobs.measure()];
    if (round < 0) continue;
    rates.direct.push(one);
    rates.jobs.push(other);
  }
  await direct.close();
  await file?.close();
  await byJobs.close();
  return rates;
}

/** Both begin with cold code. */
const WARM_UP_ROUNDS = 2;

interface Turns {
  /** Returns requests per second. */
  measure(): Promise<number>;
  close(): Promise<void>;
}

async function directCalls(count: number, rows: number, file: FileHandle | undefined): Promise<Turns> {
  const engine = await createEngine({ models: `${ROOT}native-models`, replicas: 2 });
  const dims = [rows, WIDTH];
  const image = { dims, data: rowsOf(1, rows) };
  const feedOf = async (request: number) => {
    if (file === undefined) return image;
    const tensor = engine.allocate('float32', dims);
    const bytes = new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
    await file.read(bytes, 0, bytes.length, HEADER_BYTES + (request % KINDS) * bytes.length);
    return tensor;
  };
  return {
    async measure() {
      let left = count;
      const began = performance.now();
      const call = async () => {
        for (left -= 1; left >= 0; left -= 1) await engine.run(HEAVIER, { image: await feedOf(left) });
      };
      await Promise.all(Array.from({ length: CALLERS }, call));
      return (count * 1_000) / (performance.now() - began);
    },
    close: () => engine.close(),
  };
}

/** Takes the time from when the worker may go on until the last result is stored; the jobs are there before. */
async function jobsOfWorker(count: number, source: JobSource, folder: string): Promise<Turns> {
  const nats = await NatsServer.start();
  const connection = await connectNats(nats.url, 'bench');
  const streams = streamsOf(STREAM);
  const worker = startWorker(nats, 2, 'w', folder);
  const manager = await jetstreamManager(connection);
  let runs = 0;
  return {
    async measure() {
      runs += 1;
      worker.kill('SIGSTOP');
      await submitJobs(connection, streams, `run${runs}`, source, () => undefined);
      const began = Date.now();
      worker.kill('SIGCONT');
      let ended = began;
      const areStored = async () => {
        // To ask takes the server's time.
        await sleep(200);
        const { state } = await manager.streams.info(streams.results);
        ended = Date.parse(state.last_ts);
        return state.messages >= runs * count;
      };
      await until(areStored, 'the results', 300_000);
      return (count * 1_000) / (ended - began);
    },
    async close() {
      worker.kill('SIGTERM');
      await worker.exited;
      await connection.close();
      await nats.stop();
    },
  };
}
