import { mkdirSync, readdirSync, readlinkSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteBudget } from '../../dist/cluster/jobs/bodies/byte-budget.js';
import { readJob } from '../../dist/cluster/jobs/bodies/job-body.js';
import { JobFiles } from '../../dist/cluster/jobs/bodies/job-files.js';
import { openNpy } from '../../dist/cluster/jobs/bodies/npy-file.js';
import { OpenArrays } from '../../dist/cluster/jobs/bodies/open-arrays.js';
import { fateOf, MOST_TRIES } from '../../dist/cluster/jobs/job-outcome.js';
import { type NewJob, openJobs, type SourceOptions } from '../../dist/cluster/jobs/job-source.js';
import { checkRun, isPartOfSubject, keyOf, streamsOf } from '../../dist/cluster/jobs/job-streams.js';
import { InfermuxError } from '../../dist/index.js';
import type { Allocate } from '../../dist/open-inference/raw-tensors.js';
import { arrayTypeOf, elementsOf, newTensor } from '../../dist/tensors/tensor.js';
import { until } from '../support/cluster/programs.js';
import { directory } from '../support/directories.js';

const allocate = ((type, dims) => newTensor(type, dims, new (arrayTypeOf(type))(elementsOf(dims)))) as Allocate;

/** Writes a file of NumPy. */
function npy(path: string, header: string, data: Uint8Array, version = 1): string {
  const text = `${header.padEnd(117)}\n`;
  const length = version === 1 ? [text.length, 0] : [text.length, 0, 0, 0];
  writeFileSync(
    path,
    Buffer.concat([Buffer.from([0x93, ...Buffer.from('NUMPY'), version, 0, ...length]), Buffer.from(text), data]),
  );
  return path;
}
const headerOf = (descr: string, shape: string, order = 'False') =>
  `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${shape}), }`;
const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

describe('a file of NumPy', () => {
  it('gives its rows, wherever they are, in both versions of the format', async () => {
    const root = directory();
    for (const version of [1, 2]) {
      const array = await openNpy(
        npy(join(root, `v${version}.npy`), headerOf('<f4', '3, 2'), floats(1, 2, 3, 4, 5, 6), version),
      );
      expect(array).toMatchObject({ datatype: 'FP32', shape: [3, 2], rowBytes: 8 });
      const target = new Float32Array(4);
      await array.read(1, 3, new Uint8Array(target.buffer));
      expect([...target]).toStrictEqual([3, 4, 5, 6]);
      expect(() => array.check(2, 4)).toThrow('it has 3 rows');
      await array.close();
    }
    const line = await openNpy(npy(join(root, 'line.npy'), headerOf('|u1', '4,'), Uint8Array.of(1, 2, 3, 4)));
    expect(line).toMatchObject({ datatype: 'UINT8', shape: [4], rowBytes: 1 });
    await line.close();
  });

  it('is refused where it is none, or of a form that is not read, with the reason', async () => {
    const root = directory();
    const cases: [string, string][] = [
      [npy(join(root, 'a'), headerOf('>f4', '1,'), floats(1)), 'big-endian'],
      [npy(join(root, 'b'), headerOf('<f4', '1, 1', 'True'), floats(1)), "Fortran's order"],
      [npy(join(root, 'c'), headerOf('|O', '1,'), floats(1)), 'its elements are'],
      [npy(join(root, 'd'), headerOf('<f4', ''), floats(1)), 'its shape is ()'],
      [npy(join(root, 'e'), headerOf('<f4', '5,'), floats(1)), 'its shape needs'],
      [npy(join(root, 'f'), headerOf('<c8', '1,'), floats(1, 1)), 'its elements are'],
    ];
    writeFileSync(join(root, 'g'), 'text');
    cases.push([join(root, 'g'), 'does not begin as one'], [join(root, 'h'), 'cannot be read']);
    for (const [path, why] of cases) await expect(openNpy(path), path).rejects.toThrow(why);
  });

  it('never takes the process down, whatever is in it', async () => {
    const root = directory();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const path = join(root, 'x.npy');
        writeFileSync(path, Buffer.concat([Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0]), bytes]));
        await openNpy(path).then(
          (array) => array.close(),
          (error) => expect(error).toBeInstanceOf(InfermuxError),
        );
      }),
    );
  });
});

describe('the body of a job', () => {
  const input = { name: 'x', datatype: 'FP32', shape: [1, 2] };

  it('is that of a request over REST, in JSON and in binary form', async () => {
    const none = await JobFiles.open(undefined);
    const json = Buffer.from(JSON.stringify({ inputs: [{ ...input, data: [1, 2] }] }));
    const { call } = await readJob('m', json, undefined, none, allocate);
    expect(call).toMatchObject({ target: 'm', feeds: { x: { dims: [1, 2], data: Float32Array.of(1, 2) } } });
    const head = Buffer.from(JSON.stringify({ inputs: [{ ...input, parameters: { binary_data_size: 8 } }] }));
    const binary = Buffer.concat([head, floats(3, 4)]);
    expect((await readJob('m', binary, head.length, none, allocate)).call.feeds['x']?.data).toStrictEqual(
      Float32Array.of(3, 4),
    );
    await expect(readJob('m', binary.subarray(0, -1), head.length, none, allocate)).rejects.toThrow(
      '7 bytes follow its JSON',
    );
    await expect(readJob('m', json, json.length + 1, none, allocate)).rejects.toThrow('its JSON is to have');
    await expect(readJob('m', Buffer.from('{'), undefined, none, allocate)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('may name rows of files below the directory, and no others', async () => {
    const outside = directory();
    const root = directory();
    mkdirSync(join(root, 'in'));
    npy(join(root, 'in', 'x.npy'), headerOf('<f4', '3, 2'), floats(1, 2, 3, 4, 5, 6));
    npy(join(outside, 'secret.npy'), headerOf('<f4', '1,'), floats(1));
    symlinkSync(join(outside, 'secret.npy'), join(root, 'link.npy'));
    const files = await JobFiles.open(root);
    const read = async (file: unknown, rows?: unknown, own = files, beside: object = { data: [7, 8] }) => {
      const inputs = [
        { name: 'x', parameters: { file, rows } },
        { ...input, name: 'y', ...beside },
      ];
      const { call, release } = await readJob('m', Buffer.from(JSON.stringify({ inputs })), undefined, own, allocate);
      release();
      return call;
    };
    const { feeds } = await read('in/x.npy', [1, 2]);
    expect(feeds['x']).toMatchObject({ dims: [1, 2], data: Float32Array.of(3, 4) });
    expect(feeds['y']?.data).toStrictEqual(Float32Array.of(7, 8));
    expect((await read('in/x.npy')).feeds['x']?.dims).toStrictEqual([3, 2]);
    mkdirSync(join(root, 'x.npy'));
    for (const file of ['../secret.npy', 'link.npy', join(outside, 'secret.npy'), 'x.npy', '.', '/etc/passwd', '..']) {
      await expect(read(file), file).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('is no file in the directory of --files'),
      });
    }
    // Another worker may have it.
    await expect(read('none.npy')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    for (const rows of [[0], [0, 9], [2, 1], [-1, 1], ['0', '1'], [0, 1e15], 7]) {
      await expect(read('in/x.npy', rows), String(rows)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    await expect(read(7)).rejects.toThrow('inputs[0] must be');
    await expect(read('in/x.npy', undefined, await JobFiles.open(undefined))).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('start the worker with --files'),
    });
    await expect(JobFiles.open(join(root, 'in', 'x.npy'))).rejects.toThrow('--files must name a directory');
  });

  it('has no integers beside a file that would be rounded', async () => {
    const root = directory();
    npy(join(root, 'x.npy'), headerOf('<f4', '1, 2'), floats(1, 2));
    const files = await JobFiles.open(root);
    const read = async (datatype: string, text: string) => {
      const others = `{"name":"y","datatype":"${datatype}","shape":[2],"data":[${text}]}`;
      const body = `{"inputs":[{"name":"x","parameters":{"file":"x.npy"}},${others}]}`;
      return (await readJob('m', Buffer.from(body), undefined, files, allocate)).call.feeds['y']?.data;
    };
    expect(await read('INT64', '1, 9007199254740991')).toStrictEqual(BigInt64Array.of(1n, 9007199254740991n));
    expect(await read('FP64', '1, 1e300')).toStrictEqual(Float64Array.of(1, 1e300));
    await expect(read('INT64', '1, 9007199254740993')).rejects.toThrow('would be rounded');
  });
});

describe('files of jobs', () => {
  it('are read from one that is open, unless another one took its place', async () => {
    const path = join(directory(), 'x.npy');
    const others = `${path}.new`;
    npy(path, headerOf('<f4', '1,'), floats(1));
    let found = 0;
    const arrays = new OpenArrays(async (each) => {
      found += 1;
      return each;
    });
    const first = await Promise.all(Array.from({ length: 4 }, () => arrays.use(path)));
    expect([found, new Set(first.map(({ array }) => array)).size]).toStrictEqual([1, 1]);
    npy(others, headerOf('<f4', '2,'), floats(2, 3));
    renameSync(others, path);
    const second = await arrays.use(path);
    expect(second.array.shape).toStrictEqual([2]);
    // Those that read the first one go on.
    const value = new Float32Array(1);
    await first[0]?.array.read(0, 1, new Uint8Array(value.buffer));
    expect([...value]).toStrictEqual([1]);
    for (const used of [...first, second]) used.release();
    const isOpen = () =>
      readdirSync('/proc/self/fd').some((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`, 'utf8').startsWith(path);
        } catch {
          // That of the list itself.
          return false;
        }
      });
    if (process.platform === 'linux') {
      expect(isOpen()).toBe(true);
      await until(() => !isOpen(), 'the end of all uses');
    }
    unlinkSync(path);
    await expect(arrays.use(path)).rejects.toThrow('cannot be read');
    npy(path, headerOf('<f4', '3,'), floats(1, 2, 3));
    expect((await arrays.use(path)).array.shape).toStrictEqual([3]);
  });
});

describe('the memory for files of jobs', () => {
  it('is never exceeded but by a single job, and everybody gets in', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 30 })), async (sizes) => {
        const budget = new ByteBudget(20);
        let [used, inside, done] = [0, 0, 0];
        const enter = async (bytes: number) => {
          const release = await budget.take(bytes);
          used += bytes;
          inside += bytes > 0 ? 1 : 0;
          expect(used <= 20 || inside === 1).toBe(true);
          await Promise.resolve();
          used -= bytes;
          inside -= bytes > 0 ? 1 : 0;
          done += 1;
          release();
        };
        await Promise.all(sizes.map(enter));
        expect(done).toBe(sizes.length);
      }),
    );
  });
});

describe('a job that has failed', () => {
  it('is tried again while that may help, after pauses that grow, and then is dead', () => {
    const passing = new InfermuxError('REPLICA_FAILED', 'gone');
    const fates = Array.from({ length: MOST_TRIES }, (_, index) => fateOf(passing, index + 1, 0));
    const waits = fates.map((fate) => (fate.kind === 'again' ? fate.afterMs : undefined));
    expect(waits.at(-1)).toBeUndefined();
    const grown = waits.slice(0, -1) as number[];
    expect(grown).toStrictEqual([...grown].sort((left, right) => left - right));
    expect(fateOf(new InfermuxError('INVALID_ARGUMENT', 'no'), 1, 0)).toStrictEqual({ kind: 'dead', reason: 'no' });
  });

  it('is given to other workers where the fault may be this one, and then is dead', () => {
    const own = new InfermuxError('MODEL_NOT_FOUND', 'not here');
    expect(fateOf(own, 1, 0)).toStrictEqual({ kind: 'elsewhere', afterMs: 1_000 });
    const pauses = [0, 1, 2, 3, 4].map((givenBack) => fateOf(own, 1, givenBack));
    expect(pauses).toStrictEqual(
      [1_000, 3_000, 10_000, 30_000, 60_000].map((afterMs) => ({ kind: 'elsewhere', afterMs })),
    );
    expect(fateOf(own, 1, 5)).toStrictEqual({ kind: 'dead', reason: 'not here (given out 6 times)' });
    // A load that failed a moment ago is tried again when it says so.
    const late = new InfermuxError('MODEL_LOAD_FAILED', 'later', { retryable: true, retryAfterMs: 40_000 });
    expect(fateOf(late, 1, 1)).toStrictEqual({ kind: 'elsewhere', afterMs: 40_000 });
    const passing = new InfermuxError('MODEL_LOAD_FAILED', 'away', { retryable: true });
    expect(fateOf(passing, 1, MOST_TRIES - 1)).toStrictEqual({ kind: 'elsewhere', afterMs: 30_000 });
    expect(fateOf(passing, 1, MOST_TRIES)).toMatchObject({ kind: 'dead' });
  });
});

describe('a file of jobs', () => {
  const all = async (path: string, options: Partial<SourceOptions>): Promise<NewJob[]> => {
    const defaults = { model: undefined, input: undefined, rows: undefined, files: undefined };
    const source = await openJobs(path, { ...defaults, ...options });
    const jobs: NewJob[] = [];
    for await (const job of source.jobs()) jobs.push(job);
    expect(source.count).toBe(jobs.length);
    return jobs;
  };

  it('has a job on each line, with an id and a model of its own if it likes', async () => {
    const lines = ['{"inputs":[1]}', '', '{"id":"mine","model":"other","request":{"a":1}}'];
    const path = join(directory({ 'jobs.jsonl': lines.join('\n') }), 'jobs.jsonl');
    const jobs = await all(path, { model: 'm' });
    expect(jobs.map(({ id, model }) => [id, model])).toStrictEqual([
      ['line-1', 'm'],
      ['mine', 'other'],
    ]);
    const [, handled] = jobs.map(({ body }) => JSON.parse(Buffer.from(body).toString()));
    expect(handled).toStrictEqual({
      id: 'mine',
      inputs: [{ name: 'request', datatype: 'BYTES', shape: [1], data: ['{"a":1}'] }],
    });
  });

  it('says which line is wrong, and how', async () => {
    const wrong: [string, string][] = [
      ['7', 'must be a JSON object'],
      ['{', 'is not JSON: '],
      ['{"inputs":[],"model":"a\\nb"}', 'names a model with control characters'],
      ['{}', 'either inputs or request'],
      ['{"inputs":[],"request":1}', 'either inputs or request'],
      ['{"inputs":[],"id":"a.b"}', 'needs an id of up to 200'],
      ['{"inputs":[],"model":7}', 'names no model'],
    ];
    for (const [line, why] of wrong) {
      const path = join(directory({ 'jobs.jsonl': `{"inputs":[]}\n${line}` }), 'jobs.jsonl');
      await expect(all(path, { model: 'm' }), line).rejects.toThrow(new RegExp(`^line 2 of .*${why}`));
    }
    const twice = join(directory({ 'jobs.jsonl': '{"inputs":[]}\n{"inputs":[],"id":"line-1"}' }), 'jobs.jsonl');
    await expect(all(twice, { model: 'm' })).rejects.toThrow(/^two lines of .* have the id "line-1"$/);
    const path = join(directory({ 'jobs.jsonl': '{"inputs":[]}' }), 'jobs.jsonl');
    await expect(all(path, {})).rejects.toThrow('names no model');
    await expect(all(path, { rows: 3 })).rejects.toThrow('are for .npy files');
    await expect(all('/nowhere.jsonl', {})).rejects.toThrow('there is no file');
    await expect(all(directory(), {})).rejects.toThrow('is no file: jobs are read from one');
  });

  it('may begin with the mark of UTF-8, and tells which of its jobs is the largest', async () => {
    const lines = ['\uFEFF{"inputs":[1]}', '{"inputs":[1,2,3]}', '{"inputs":[1,2]}'];
    const path = join(directory({ 'jobs.jsonl': lines.join('\r\n') }), 'jobs.jsonl');
    const options = { model: 'm', input: undefined, rows: undefined, files: undefined };
    expect(await openJobs(path, options)).toMatchObject({ count: 3, largest: { id: 'line-2', bytes: 18 } });
  });

  it('has the rows of an array in jobs, sent or named', async () => {
    const root = directory();
    const path = npy(
      join(root, 'x.npy'),
      headerOf('<f4', '5, 2'),
      floats(...Array.from({ length: 10 }, (_, index) => index)),
    );
    const sent = await all(path, { model: 'm', input: 'x', rows: 2 });
    expect(sent.map(({ id }) => id)).toStrictEqual(['rows-0', 'rows-2', 'rows-4']);
    const rows = await Promise.all(
      sent.map(
        async ({ body, jsonBytes }) =>
          (await readJob('m', body, jsonBytes, await JobFiles.open(undefined), allocate)).call.feeds['x'],
      ),
    );
    expect(rows.map((tensor) => tensor?.dims)).toStrictEqual([
      [2, 2],
      [2, 2],
      [1, 2],
    ]);
    expect(rows.flatMap((tensor) => Array.from((tensor?.data ?? []) as Float32Array))).toStrictEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    const named = await all(path, { model: 'm', input: 'x', rows: 2, files: root });
    const last = named.at(-1) as NewJob;
    const { call } = await readJob('m', last.body, last.jsonBytes, await JobFiles.open(root), allocate);
    expect(call.feeds['x']).toMatchObject({ dims: [1, 2], data: Float32Array.of(8, 9) });
    await expect(all(path, { model: 'm' })).rejects.toThrow('needs --model, and --input');
    await expect(all(path, { model: 'm', input: 'x', files: directory() })).rejects.toThrow(
      'is not below the directory',
    );
  });
});

describe('names', () => {
  it('of streams and parts of subjects have no dots, spaces or wildcards', () => {
    expect(streamsOf('night')).toStrictEqual({ jobs: 'night', results: 'night-results', dead: 'night-dead' });
    for (const name of ['', 'a.b', 'a b', 'a>', '*', 'x'.repeat(65)])
      expect(() => streamsOf(name), name).toThrow('a stream is named');
    for (const name of ['night-results', 'night-dead']) expect(() => streamsOf(name)).toThrow('what came of the jobs');
    expect(() => checkRun('--json')).toThrow('a run is named by');
    for (const text of ['', 'a.b', 'a b', '>', '*', 'x'.repeat(201)]) expect(isPartOfSubject(text), text).toBe(false);
    expect(keyOf('night.jobs.run.7')).toBe('run.7');
  });
});
