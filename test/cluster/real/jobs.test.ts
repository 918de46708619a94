import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { jetstreamManager } from '@nats-io/jetstream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jobThroughput, survival } from '../../../bench/cluster/jobs.js';
import { median } from '../../../bench/load/measurements.js';
import { collectResults, type JobEnd } from '../../../dist/cluster/jobs/collect-results.js';
import { JobMemory } from '../../../dist/cluster/jobs/job-memory.js';
import { ELSEWHERE_MS } from '../../../dist/cluster/jobs/job-outcome.js';
import { openStreams, streamsOf } from '../../../dist/cluster/jobs/job-streams.js';
import { type JobResult, JobWorker } from '../../../dist/cluster/jobs/job-worker.js';
import { submitJobs } from '../../../dist/cluster/jobs/submit-jobs.js';
import { connectNats } from '../../../dist/cluster/nats/nats-connection.js';
import { InfermuxError } from '../../../dist/index.js';
import { isInstalled } from '../../support/cluster/hosts.js';
import { NatsServer } from '../../support/cluster/nats.js';
import { type Program, startProgram, until } from '../../support/cluster/programs.js';
import { directory } from '../../support/directories.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CLI = `${ROOT}dist/cli/main.js`;

describe.skipIf(!isInstalled('nats-server'))('jobs', () => {
  it('are all done, each stored once and right, though workers are killed and the server is started again', async () => {
    const { jobs, results, dead, wrong, doubled, kills } = await survival(3_000);
    expect({ results, dead, wrong, doubled }).toStrictEqual({ results: jobs, dead: 0, wrong: 0, doubled: 0 });
    expect(kills).toBeGreaterThan(1);
  });

  it('take no more than twice the time of calls of an engine, where files are named', async () => {
    const { direct, jobs } = await jobThroughput(21, 400, 1_024, true);
    expect(median(jobs.map((rate, round) => rate / (direct[round] as number)))).toBeGreaterThanOrEqual(0.5);
  });

  it('that end their workers are put aside, and take no other job with them', async () => {
    const folder = directory();
    const nats = await NatsServer.start();
    const handler = fileURLToPath(new URL('../../support/killing-handler.mjs', import.meta.url));
    writeFileSync(
      join(folder, 'config.json'),
      JSON.stringify({ engine: { deployments: { killing: { handler, replicas: 1 } } } }),
    );
    const jobs = Array.from({ length: 40 }, (_, index) => ({
      id: `j${index}`,
      request: { index, kill: index === 20 },
    }));
    writeFileSync(join(folder, 'jobs.jsonl'), jobs.map((job) => JSON.stringify(job)).join('\n'));
    const own = ['--nats', nats.url, '--stream', 'odd'];
    const config = ['--config', join(folder, 'config.json'), '--log-level', 'error'];
    let [isOver, deaths] = [false, 0];
    let worker: Program | undefined;
    // Whoever runs workers starts them again.
    const keeping = (async () => {
      while (!isOver) {
        worker = startProgram([process.execPath, CLI, 'worker', `${ROOT}native-models`, ...own, ...config]);
        if ((await worker.exited) === 'SIGKILL') deaths += 1;
      }
    })();
    const results = join(folder, 'results.jsonl');
    const args = [CLI, 'submit', join(folder, 'jobs.jsonl'), ...own, '--model', 'killing', '--results', results];
    await promisify(execFile)(process.execPath, args).catch(() => undefined);
    isOver = true;
    worker?.kill('SIGTERM');
    await keeping;
    await nats.stop();
    const lines = readFileSync(results, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(40);
    const dead = lines.filter(({ code }) => code !== undefined);
    expect(dead).toStrictEqual([
      expect.objectContaining({
        id: 'j20',
        code: 'REPLICA_FAILED',
        error: expect.stringContaining('it has ended 3 workers'),
      }),
    ]);
    expect(deaths).toBe(5);
  });

  it('that outlast the end of their workers are given to others, and are not blamed for it', async () => {
    const nats = await NatsServer.start();
    const connection = await connectNats(nats.url, 'test');
    const streams = streamsOf('long');
    const startWith = (run: () => Promise<JobResult>) =>
      JobWorker.start(connection, { streams, node: 'w', concurrency: 8, run, log: () => undefined });
    async function* jobs() {
      yield { id: 'a', model: 'm', body: Buffer.from('{}'), jsonBytes: undefined };
    }
    await submitJobs(connection, streams, 'run', { count: 1, jobs }, () => undefined);
    // More often than a job may end workers.
    for (let time = 0; time < 7; time += 1) {
      const worker = await new Promise<JobWorker>((resolve, reject) => {
        const starting = startWith(() => {
          starting.then(resolve, reject);
          return new Promise(() => undefined);
        });
      });
      await worker.stop(0);
    }
    const last = await startWith(async () => ({ body: Buffer.from('{"outputs":[]}'), jsonBytes: undefined }));
    const ends: JobEnd[] = [];
    await collectResults(connection, streams, 'run', new Map([['a', undefined]]), (end) => void ends.push(end));
    expect(ends).toStrictEqual([expect.objectContaining({ id: 'a', body: expect.anything() })]);
    await last.stop(1_000);
    expect(last.counts).toMatchObject({ done: 1, dead: 0 });
    await connection.close();
    await nats.stop();
  });

  it('are stored though somebody deletes the streams of their ends meanwhile', async () => {
    const nats = await NatsServer.start();
    const connection = await connectNats(nats.url, 'test');
    const streams = streamsOf('gone');
    const ids = ['a', 'b', 'c'];
    async function* jobs() {
      for (const id of ids) yield { id, model: 'm', body: Buffer.from('{}'), jsonBytes: undefined };
    }
    await submitJobs(connection, streams, 'run', { count: 3, jobs }, () => undefined);
    const manager = await jetstreamManager(connection);
    let goOn: (() => void) | undefined;
    const deleted = new Promise<void>((resolve) => (goOn = resolve));
    let begun = 0;
    const worker = await JobWorker.start(connection, {
      ...{ streams, node: 'w', concurrency: 3, log: () => undefined },
      run: async ({ id }) => {
        begun += 1;
        await deleted;
        if (id === 'run.c') throw new InfermuxError('INVALID_ARGUMENT', 'odd');
        return { body: Buffer.from('{"outputs":[]}'), jsonBytes: undefined };
      },
    });
    await until(() => begun === 3, 'all jobs to begin');
    await Promise.all([streams.results, streams.dead].map((stream) => manager.streams.delete(stream)));
    goOn?.();
    const ends: JobEnd[] = [];
    const all = new Map(ids.map((id) => [id, undefined]));
    await collectResults(connection, streams, 'run', all, (end) => void ends.push(end));
    expect(new Set(ends.map((end) => [end.id, 'code' in end].join()))).toStrictEqual(
      new Set(['a,false', 'b,false', 'c,true']),
    );
    // A job that is dead has no result to be found in a stream that is not there.
    await manager.streams.delete(streams.results);
    const lone = {
      count: 1,
      jobs: async function* () {
        yield { id: 'c', model: 'm', body: Buffer.from('[]'), jsonBytes: undefined };
      },
    };
    const { digests } = await submitJobs(connection, streams, 'run', lone, () => undefined);
    await until(() => worker.counts.dead === 2, 'its end');
    expect(digests.size).toBe(1);
    await worker.stop(1_000);
    await connection.close();
    await nats.stop();
  });

  it('are not put into a stream that is for something else', async () => {
    const nats = await NatsServer.start();
    const connection = await connectNats(nats.url, 'test');
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'other', subjects: ['orders.>'] });
    await expect(openStreams(connection, streamsOf('other'))).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('there is another stream named other: it has the subjects orders.>'),
    });
    await connection.close();
    await nats.stop();
  });

  describe('from files', () => {
    let nats: NatsServer;
    let worker: Program;
    const folder = directory();
    beforeAll(async () => {
      nats = await NatsServer.start();
      const handler = fileURLToPath(new URL('../../support/serving-handler.mjs', import.meta.url));
      const config = join(folder, 'config.json');
      writeFileSync(config, JSON.stringify({ engine: { deployments: { handler: { handler, replicas: 1 } } } }));
      const own = [
        '--nats',
        nats.url,
        '--stream',
        'night',
        '--files',
        folder,
        '--config',
        config,
        '--log-level',
        'warn',
      ];
      worker = startProgram([process.execPath, CLI, 'worker', `${ROOT}native-models`, ...own]);
    });
    afterAll(async () => {
      worker.kill('SIGTERM');
      expect(await worker.exited).toBe(0);
      await nats.stop();
    });

    /** Runs a command of the CLI on the stream `night`, or on the one that the flags name. */
    async function run(command: string, ...flags: readonly string[]) {
      const args = [CLI, command, '--nats', nats.url, '--stream', 'night', '--json', ...flags];
      const ended = promisify(execFile)(process.execPath, args);
      return ended.then(
        ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
        ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ code, stdout, stderr }),
      );
    }
    const readLines = (file: string) =>
      readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    async function submit(file: string, ...flags: readonly string[]) {
      const results = join(folder, 'results.jsonl');
      const { code, stdout } = await run('submit', file, '--results', results, ...flags);
      return { code, report: JSON.parse(stdout), lines: readLines(results) };
    }
    const image = (fill: number, width = 64) => ({
      name: 'image',
      datatype: 'FP32',
      shape: [1, width],
      data: Array(width).fill(fill),
    });

    it('come back as lines: results, and why there is none', async () => {
      const file = join(folder, 'jobs.jsonl');
      const jobs = [
        { inputs: [image(1)] },
        { id: 'narrow', inputs: [image(1, 63)] },
        { id: 'lost', model: 'nothing', inputs: [image(1)] },
        { id: 'handled', model: 'handler', request: { value: 3 } },
      ];
      writeFileSync(file, jobs.map((job) => JSON.stringify(job)).join('\n'));
      const connection = await connectNats(nats.url, 'test');
      // It is the last time that a worker gets it whose fault may be that it lacks the model.
      const memory = await JobMemory.open(connection, streamsOf('night'));
      await memory.write('first.lost', { begunAlone: 0, givenBack: ELSEWHERE_MS.length });
      const { code, report, lines } = await submit(file, '--model', 'digits-mlp', '--run', 'first');
      expect([code, report]).toStrictEqual([
        1,
        expect.objectContaining({ run: 'first', jobs: 4, known: 0, done: 2, dead: 2 }),
      ]);
      const byId = new Map(lines.map((line) => [line.id, line]));
      expect(byId.get('line-1')).toMatchObject({
        model_name: 'digits-mlp',
        outputs: [{ name: 'probabilities', shape: [1, 10] }],
      });
      expect(byId.get('narrow')).toMatchObject({ code: 'INVALID_ARGUMENT', error: expect.stringContaining('[N, 64]') });
      expect(byId.get('lost')).toMatchObject({ code: 'MODEL_NOT_FOUND', model: 'nothing' });
      const [answer] = byId.get('handled').outputs[0].data;
      expect(JSON.parse(answer)).toMatchObject({ request: { value: 3 }, requestId: 'first.handled' });
      // The same run: nothing is done twice, and its results are there.
      const again = await submit(file, '--model', 'digits-mlp', '--run', 'first');
      expect(again.report).toMatchObject({ jobs: 4, known: 4, done: 2, dead: 2 });
      // They can be fetched later, without the file of jobs.
      const later = join(folder, 'later.jsonl');
      const fetched = await run('jobs', '--run', 'first', '--results', later);
      expect([fetched.code, JSON.parse(fetched.stdout)]).toStrictEqual([
        1,
        { stream: 'night', runs: [{ run: 'first', waiting: 0, done: 2, dead: 2 }] },
      ]);
      const sorted = (all: readonly { id: string }[]) => all.toSorted((one, two) => (one.id < two.id ? -1 : 1));
      expect(sorted(readLines(later))).toStrictEqual(sorted(lines));
      // Other jobs of the same run have no results: those that are there are of the first.
      writeFileSync(file, JSON.stringify({ inputs: [image(2)] }));
      const args = [file, '--model', 'digits-mlp', '--run', 'first', '--nats', nats.url, '--stream', 'night'];
      const other = promisify(execFile)(process.execPath, [CLI, 'submit', ...args, '--results', join(folder, 'none')]);
      await expect(other).rejects.toMatchObject({
        stderr: expect.stringContaining('the run first has had another job line-1'),
      });
      const { state } = await (await jetstreamManager(connection)).streams.info('night-dead');
      expect(state.messages).toBe(2);
      // Nothing is left, and nothing comes again: the job that was put in twice is done.
      const manager = await jetstreamManager(connection);
      await until(async () => (await manager.streams.info('night')).state.messages === 0, 'the end of all jobs');
      // Nobody waits for results that somebody has deleted, of jobs that the server still knows.
      expect((await run('jobs', '--run', 'first', '--delete')).code).toBe(0);
      writeFileSync(file, jobs.map((job) => JSON.stringify(job)).join('\n'));
      const flags = ['--model', 'digits-mlp', '--run', 'first', '--results', join(folder, 'none')];
      expect(await run('submit', file, ...flags)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(
          '4 jobs of the run first are in no stream: they were deleted, or their results',
        ),
      });
      await connection.close();
    });

    it('are shown by run, and those that are not done are awaited', async () => {
      const connection = await connectNats(nats.url, 'test');
      const streams = streamsOf('later');
      const ids = ['a', 'b', 'c'];
      async function* jobs() {
        for (const id of ids) yield { id, model: 'm', body: Buffer.from('{}'), jsonBytes: undefined };
      }
      expect(await run('jobs', '--stream', 'later')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('there is no stream later'),
      });
      for (const name of ['one', 'two']) {
        await submitJobs(connection, streams, name, { count: 3, jobs }, () => undefined);
      }
      const runsOf = async (...flags: readonly string[]) =>
        JSON.parse((await run('jobs', '--stream', 'later', ...flags)).stdout).runs;
      const untouched = { waiting: 3, done: 0, dead: 0 };
      expect(await runsOf()).toStrictEqual([
        { run: 'one', ...untouched },
        { run: 'two', ...untouched },
      ]);
      const file = join(folder, 'two.jsonl');
      writeFileSync(file, 'as it was');
      expect(await run('jobs', '--stream', 'later', '--run', 'three', '--results', file)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('the stream later has no run "three": it has one, two'),
      });
      expect(readFileSync(file, 'utf8')).toBe('as it was');
      const awaited = run('jobs', '--stream', 'later', '--run', 'two', '--results', file);
      const body = Buffer.from('{"outputs":[]}');
      await until(() => readFileSync(file, 'utf8') === '', 'the wait for results');
      const doing = await JobWorker.start(connection, {
        ...{ streams, node: 'w', concurrency: 1, log: () => undefined },
        run: async ({ id }) => {
          if (id === 'two.b') throw new InfermuxError('INVALID_ARGUMENT', 'odd');
          return { body, jsonBytes: undefined };
        },
      });
      expect(JSON.parse((await awaited).stdout).runs).toStrictEqual([{ run: 'two', waiting: 0, done: 2, dead: 1 }]);
      // Results and dead jobs come from two streams.
      expect(new Map(readLines(file).map(({ id, code }) => [id, code]))).toStrictEqual(
        new Map([
          ['a', undefined],
          ['b', 'INVALID_ARGUMENT'],
          ['c', undefined],
        ]),
      );
      await doing.stop(1_000);
      const ended = { run: 'one', waiting: 0, done: 3, dead: 0 };
      expect(await runsOf('--run', 'one')).toStrictEqual([ended]);
      expect(await runsOf('--run', 'one', '--delete')).toStrictEqual([ended]);
      expect((await runsOf()).map(({ run: name }: { run: string }) => name)).toStrictEqual(['two']);
      for (const wrong of [['--delete'], ['--results', file], ['--run', 'two', '--delete', '--results', file]])
        expect(await run('jobs', '--stream', 'later', ...wrong)).toMatchObject({ code: 2 });
      await connection.close();
    });

    it('may be rows of an array, sent or named', async () => {
      const file = join(folder, 'x.npy');
      const header = `${"{'descr': '<f4', 'fortran_order': False, 'shape': (10, 64), }".padEnd(117)}\n`;
      const rows = Buffer.from(Float32Array.from({ length: 640 }, (_, index) => index % 16).buffer);
      writeFileSync(
        file,
        Buffer.concat([Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, 118, 0]), Buffer.from(header), rows]),
      );
      const flags = ['--model', 'digits-mlp', '--input', 'image', '--rows', '4'];
      const sent = await submit(file, ...flags);
      const named = await submit(file, ...flags, '--files', folder);
      expect([sent.code, named.code]).toStrictEqual([0, 0]);
      const outputs = ({ lines }: typeof sent) =>
        Object.fromEntries(lines.map(({ id, outputs: [{ shape, data }] }) => [id, { shape, data }]));
      expect(Object.keys(outputs(sent)).sort()).toStrictEqual(['rows-0', 'rows-4', 'rows-8']);
      expect(outputs(sent)['rows-8'].shape).toStrictEqual([2, 10]);
      expect(outputs(named)).toStrictEqual(outputs(sent));
    });
  });
});
