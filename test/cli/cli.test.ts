import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { BenchReport } from '../../dist/cli/bench/bench.js';
import type { ControlReport } from '../../dist/cli/demo/control-demo.js';
import type { DemoReport } from '../../dist/cli/demo/demo.js';
import { directory } from '../support/directories.js';
import { infermux, MAIN } from '../support/infermux.js';
import {
  identityModel,
  modelDirectory,
  oddOutputsModel,
  pickyModel,
  scaleModel,
  slowRunModel,
} from '../support/onnx-models.js';
import { TENSOR_TYPES } from '../support/tensors.js';

describe('infermux demo', () => {
  it('prints as JSON what it measured, in under 20 s and without a progress bar in a pipe', async () => {
    const startedAt = performance.now();
    const { code, stdout, stderr } = await infermux('demo', '--json');
    expect(performance.now() - startedAt).toBeLessThan(20_000);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(stdout) as DemoReport;
    expect(report).toMatchObject({ digits: 1_797, requests: 1_797 * 12 });
    expect(report.models).toHaveLength(12);
    for (const { id, requests, accuracyUnseen } of report.models) {
      expect(requests).toBe(1_797);
      expect(accuracyUnseen, id).toBeGreaterThanOrEqual(id === 'digits-mlp' ? 0.96 : 0.97);
    }
    // On a busy machine a run may take long enough for an express replica.
    const { replicas, ...few } = report.withFewPlaces;
    expect(replicas.filter(({ id }) => !id.endsWith('-express'))).toHaveLength(2);
    for (const { requests, cacheHits, cacheMisses, loads, evictions } of replicas) {
      expect(cacheHits + cacheMisses).toBe(requests);
      expect(loads - evictions).toBe(3);
      expect(cacheMisses).toBeGreaterThanOrEqual(loads);
    }
    expect(few).toMatchObject({ modelsPerReplica: 3, requests: report.requests / 4 });
    expect(replicas.reduce((sum, { requests }) => sum + requests, 0)).toBe(few.requests);
    expect(report.latencyMs.p50).toBeLessThanOrEqual(report.latencyMs.p99);
    expect(few.requestsPerSecond).toBeGreaterThan(0);
    expect(report.requestsPerSecond).toBeGreaterThan(few.requestsPerSecond);
  }, 40_000);

  it('prints tables', async () => {
    const { stdout } = await infermux('demo');
    for (const text of ['digits-cnn', 'requests per second', 'event-loop delay', 'evictions', 'room for 12 models'])
      expect(stdout).toContain(text);
  }, 40_000);
});

describe('infermux demo --control', () => {
  it('changes replicas, settings and traffic under load, and every request is answered', async () => {
    const { code, stdout, stderr } = await infermux('demo', '--control', '--json', '--hold', '0.2');
    const { steps, errors, requests } = JSON.parse(stdout) as ControlReport;
    expect({ code, errors }).toEqual({ code: 0, errors: {} });
    expect(stderr.trim().split('\n')).toEqual(steps.map(({ step }) => step));
    expect(steps.map(({ replicas }) => replicas)).toEqual([2, 4, 4, 4, 4, 4, 2]);
    const rolled = steps.find(({ step }) => step === 'rolling update');
    expect(rolled?.fewestReplicas).toBe(4);
    const shares = steps.map(({ traffic }) => traffic['digits-cnn'] ?? 0);
    for (const [index, share] of [0, 0, 0, 0.1, 0.5, 1, 1].entries()) {
      expect(Math.abs((shares[index] as number) - share)).toBeLessThan(0.1);
    }
    expect(requests).toBeGreaterThan(1_000);
  }, 40_000);

  it('prints a table', async () => {
    const { stdout } = await infermux('demo', '--control', '--hold', '0.05');
    for (const text of ['rolling update', 'digits-cnn', 'all of them answered']) expect(stdout).toContain(text);
  }, 40_000);
});

const MLP = fileURLToPath(new URL('../../native-models/digits-mlp/model.onnx', import.meta.url));

describe('infermux inspect', () => {
  it('tells what a model takes and gives, and that it can be batched', async () => {
    const { code, stdout } = await infermux('inspect', MLP, '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      format: 'ONNX',
      producer: 'infermux native-models',
      opsets: { 'ai.onnx': 17 },
      bytes: statSync(MLP).size,
      inputs: [{ name: 'image', type: 'float32', shape: ['N', 64] }],
      outputs: [{ name: 'probabilities', type: 'float32', shape: ['N', 10] }],
    });
    expect(report.whyNotBatched).toBeUndefined();
    const tables = (await infermux('inspect', MLP)).stdout;
    for (const text of ['image', 'N × 64', 'ai.onnx 17', 'yes']) expect(tables).toContain(text);
  });

  it('says which outputs are left out, and why', async () => {
    const directory = modelDirectory({ odd: oddOutputsModel(['sequence', 'int4']) });
    const { stdout } = await infermux('inspect', `${directory}/odd.onnx`);
    const lines = stdout.split('\n').filter((line) => /output|left out/.test(line));
    expect(lines).toEqual([
      expect.stringMatching(/output .* label .* float32 .* N × 2/),
      expect.stringMatching(/left out .* sequence .* onnxruntime-node carries tensors only/),
      expect.stringMatching(/left out .* int4 .* it has type int4, which onnxruntime-node cannot carry/),
    ]);
    const { outputs, omittedOutputs } = JSON.parse(
      (await infermux('inspect', `${directory}/odd.onnx`, '--json')).stdout,
    );
    expect([outputs, omittedOutputs]).toMatchObject([[{ name: 'label' }], [{ name: 'sequence' }, { name: 'int4' }]]);
  });

  it('says why a model cannot be batched', async () => {
    const directory = modelDirectory({ slow: slowRunModel(1, 4) });
    const { stdout } = await infermux('inspect', `${directory}/slow.onnx`);
    expect(stdout).toContain('no: the first dimension of input "x" is always 1');
  });

  it.each([
    ['/nowhere/model.onnx', 'ENOENT'],
    [MAIN, 'failed:Protobuf parsing failed'],
    [MAIN, `${MAIN} is not an ONNX or ORT model, or only part of one`],
    [tmpdir(), 'is not a file; expected an ONNX or ORT file'],
  ])('%s exits with 1 and the reason', async (path, reason) => {
    const { code, stdout, stderr } = await infermux('inspect', path);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(reason);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});

describe('infermux models', () => {
  const broken = directory({
    'good/model.onnx': scaleModel(2),
    'good/model.json': '{ "licence": "MIT", "pinned": true }',
    'versions/1/model.onnx': scaleModel(2),
    'versions/2/model.onnx': scaleModel(3),
    'cut/model.onnx': scaleModel(2).subarray(0, 60),
    'hash/model.onnx': scaleModel(2),
    'hash/model.json': JSON.stringify({ sha256: 'ab'.repeat(32) }),
    'manifest/model.onnx': scaleModel(2),
    'manifest/model.json': '{',
    'odd@name.onnx': '',
    'notes/readme.txt': '',
  });

  it('lists a directory as the engine sees it, without a load', async () => {
    const { code, stdout } = await infermux('models', 'list', broken, '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    const names = report.models.map(({ id, version }: { id: string; version: number }) => `${id}@${version}`);
    expect(names.sort()).toEqual(['cut@1', 'good@1', 'hash@1', 'versions@2']);
    expect(report.models).toContainEqual(expect.objectContaining({ id: 'good', isPinned: true, licence: 'MIT' }));
    expect(report.problems).toMatchObject([{ model: 'manifest', problem: expect.stringContaining('is not JSON') }]);
    expect(Object.keys(report.passedOver).sort()).toEqual(['notes', 'odd@name.onnx']);
  });

  it('checks every model of it, names every problem, and ends with 1', async () => {
    const { code, stdout } = await infermux('models', 'check', broken);
    expect(code).toBe(1);
    for (const text of [
      ...['problem: manifest: ', 'problem: cut@1: ', 'is not an ONNX or ORT model', 'problem: hash@1: ', 'SHA-256'],
      ...['skipped: odd@name.onnx', '4 models can be served, 3 problems'],
    ]) {
      expect(stdout).toContain(text);
    }
  });

  it('finds nothing wrong with the models of the package', async () => {
    const { code, stdout } = await infermux(
      'models',
      'check',
      fileURLToPath(new URL('../../native-models', import.meta.url)),
    );
    expect(stdout).toContain('12 models can be served, 0 problems');
    expect(code).toBe(0);
  });

  it('says that a directory cannot be read', async () => {
    const { code, stderr } = await infermux('models', 'list', '/nowhere/at/all');
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('ENOENT') });
    expect(await infermux('models', 'check')).toMatchObject({ code: 2 });
  });
});

describe('infermux bench', () => {
  it('measures every setting, names the best and draws it', async () => {
    const svg = join(mkdtempSync(join(tmpdir(), 'infermux-bench-')), 'chart.svg');
    const args = ['bench', MLP, '--callers', '1,8', '--replicas', '1,2', '--threads', 'auto,2'];
    args.push('--seconds', '0.1', '--svg', svg);
    const { code, stdout, stderr } = await infermux(...args, '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { rows, bestAt, best } = JSON.parse(stdout) as BenchReport;
    expect(rows.map(({ replicas, threads, callers }) => [replicas, threads, callers])).toEqual([
      [1, 'auto', 1],
      [1, 'auto', 8],
      [1, 2, 1],
      [1, 2, 8],
      [2, 'auto', 1],
      [2, 'auto', 8],
      [2, 2, 1],
      [2, 2, 8],
    ]);
    for (const { throughput, p50, p95, p99, batchSize } of rows) {
      expect(throughput).toBeGreaterThan(0);
      expect(p50).toBeGreaterThan(0);
      expect(p95).toBeGreaterThanOrEqual(p50);
      expect(p99).toBeGreaterThanOrEqual(p95);
      expect(batchSize).toBeGreaterThanOrEqual(1);
    }
    const most = (all: typeof rows) => Math.max(...all.map(({ throughput }) => throughput));
    expect(best.throughput).toBe(most(rows));
    expect(bestAt.map(({ callers, throughput }) => [callers, throughput])).toEqual(
      [1, 8].map((count) => [count, most(rows.filter(({ callers }) => callers === count))]),
    );
    const chart = readFileSync(svg, 'utf8');
    expect(chart.match(/<rect/g)).toHaveLength(1 + rows.length);
    const table = (await infermux(...args)).stdout;
    expect(table).toMatch(/█[\s\S]*best: \d replicas?, (auto|2) threads and \d callers?/);
    expect(table).not.toContain('requests are not batched');
    for (const callers of ['1 caller', '8 callers']) {
      expect(table).toMatch(new RegExp(`best with ${callers}: \\d replicas?, (auto|2) threads, [\\d,]+ requests/s`));
    }
  }, 40_000);

  const quick = ['--callers', '2', '--replicas', '1', '--seconds', '0.05', '--json'];

  it('makes inputs of every type', async () => {
    const directory = modelDirectory({ identity: identityModel(TENSOR_TYPES) });
    expect((await infermux('bench', `${directory}/identity.onnx`, ...quick)).code).toBe(0);
  }, 40_000);

  it('wants shapes where dimensions are free', async () => {
    const picky = `${modelDirectory({ picky: pickyModel() })}/picky.onnx`;
    const refused = await infermux('bench', picky, ...quick);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('input "x" has the shape [N, M]. Give shapes that fit, like --input x=1x8');
    const misfit = await infermux('bench', picky, ...quick, '--input', 'x=3');
    expect(misfit.stderr).toContain('input "x" has the shape [N, M], got 3. Give');
    const huge = await infermux('bench', picky, ...quick, '--input', 'x=99999999x64');
    expect(huge.stderr).toContain('input "x": 99999999x64 is 25,599,999,744 bytes; at most 1,073,741,824 are made');
  }, 40_000);

  it('uses shapes that it was given, and says where they do not fit', async () => {
    const picky = `${modelDirectory({ picky: pickyModel() })}/picky.onnx`;
    expect((await infermux('bench', picky, ...quick, '--input', 'x=3x4')).code).toBe(0);
    const failing = await infermux('bench', picky, ...quick, '--input', 'x=3x5');
    expect(failing.code).toBe(1);
    expect(failing.stderr).toContain('model "picky":');
    expect((await infermux('bench', picky, ...quick, '--input', 'z=3x4')).stderr).toContain('has no input "z"');
  }, 40_000);
});

describe('what is beside the model', () => {
  it('counts: a model.json says how its requests are joined', async () => {
    const directory = modelDirectory({ 'known/model': scaleModel(2), 'alone/model': scaleModel(2) });
    writeFileSync(`${directory}/known/model.json`, '{ "batching": { "maxSize": 8 } }');
    writeFileSync(`${directory}/alone/model.json`, '{ "batching": false }');
    expect((await infermux('inspect', `${directory}/alone/model.onnx`)).stdout).toContain(
      'no: its own "batching" is false',
    );
    const quick = ['--callers', '64', '--replicas', '1', '--seconds', '0.2', '--json'];
    const { best: joined } = JSON.parse((await infermux('bench', `${directory}/known/model.onnx`, ...quick)).stdout);
    const { best: alone } = JSON.parse((await infermux('bench', `${directory}/alone/model.onnx`, ...quick)).stdout);
    expect(joined.batchSize).toBeGreaterThan(1);
    expect(joined.batchSize).toBeLessThanOrEqual(8);
    expect(alone.batchSize).toBe(1);
  }, 40_000);
});

describe('infermux bench of a slow model', () => {
  it('leaves out callers that would wait many times as long as a measurement takes, and says so', async () => {
    const directory = modelDirectory({ slow: slowRunModel(40) });
    const args = ['bench', `${directory}/slow.onnx`, '--callers', '1,10000', '--replicas', '1', '--seconds', '0.1'];
    const { stdout } = await infermux(...args);
    expect(stdout).toMatch(
      /not measured: 1 replica, auto threads and 10000 callers: at [\d.]+ requests\/s that takes over 10 times --seconds 0\.1/,
    );
  }, 40_000);
});

it('a chart is written though nobody reads what is printed', async () => {
  const svg = join(mkdtempSync(join(tmpdir(), 'infermux-bench-')), 'chart.svg');
  const args = [MAIN, 'bench', MLP, '--callers', '1', '--replicas', '1', '--seconds', '0.05', '--json', '--svg', svg];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  child.stdout.destroy();
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(readFileSync(svg, 'utf8')).toContain('</svg>');
}, 40_000);

it('a path on the command line may be a file: URL', async () => {
  const root = directory({ 'my models é/a/model.onnx': scaleModel(2) });
  const folder = join(root, 'my models é');
  const quick = ['--callers', '1', '--replicas', '1', '--seconds', '0.05', '--json'];
  const svg = join(root, 'my chart.svg');
  const read = async (...args: string[]) => JSON.parse((await infermux(...args)).stdout);
  const model = pathToFileURL(join(folder, 'a', 'model.onnx')).href;
  expect(await read('inspect', `${model}?v=1`, '--json')).toMatchObject({ path: join(folder, 'a', 'model.onnx') });
  expect(await read('bench', model, ...quick, '--svg', pathToFileURL(svg).href)).toMatchObject({
    best: { callers: 1 },
  });
  expect(readFileSync(svg, 'utf8')).toContain('</svg>');
  for (const command of ['list', 'check']) {
    const report = await read('models', command, pathToFileURL(folder).href, '--json');
    expect(report).toMatchObject({ directory: folder, models: [{ id: 'a' }], problems: [] });
  }
}, 40_000);

describe('the command line', () => {
  it('explains itself', async () => {
    const { code, stdout } = await infermux('--help');
    expect(code).toBe(0);
    expect(stdout).toContain('demo');
    expect((await infermux('demo', '--help')).stdout).toContain('--json');
  });

  it('names its version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect((await infermux('--version')).stdout.trim()).toBe(version);
  });

  it.each([
    [['demo', '--jsn'], "unknown option '--jsn'"],
    [['dmo'], "unknown command 'dmo'"],
    [['demo', 'now'], 'too many arguments'],
    [['demo', '--control', '--hold', 'long'], 'expected seconds: a number from 0.01 to 10000'],
    [['demo', '--hold', '1'], "option '--hold' needs '--control'"],
    [['inspect'], "missing required argument 'model'"],
    [['inspect', 'https://example.org/a.onnx'], 'must be a path or a file: URL (The URL must be of scheme file'],
    [['inspect', 'file://server/a.onnx'], 'expected a path or a file: URL of this machine: File URL host must be'],
    [['models', 'list', 'file:///a%2Fb'], 'expected a path or a file: URL of this machine: File URL path must not'],
    [['models', 'list', 'https://example.org/'], 'must be a path or a file: URL (The URL must be of scheme file'],
    [['bench', 'm.onnx', '--svg', 'file:///nowhere/chart.svg'], 'expected a file that can be written: ENOENT'],
    [['bench', 'm.onnx', '--callers', '1,x'], 'expected integers from 1 to 10000 with commas between'],
    [['bench', 'm.onnx', '--seconds', '0'], 'expected seconds: a number from 0.01 to 10000'],
    [['bench', 'm.onnx', '--replicas', '1,1025'], 'expected integers from 1 to 1024 with commas between'],
    [['bench', 'm.onnx', '--threads', 'auto,0'], 'expected auto and integers from 1 to 1024 with commas between, like'],
    [['bench', 'm.onnx', '--threads', 'all'], 'expected auto and integers from 1 to 1024 with commas between, like'],
    [['bench', 'm.onnx', '--threads', '1025'], 'expected auto and integers from 1 to 1024 with commas between, like'],
    [['bench', 'm.onnx', '--svg', '/nowhere/chart.svg'], 'expected a file that can be written: ENOENT'],
    [['bench', 'm.onnx', '--input', 'x=1', '--input', 'x=2'], 'input "x" has a shape already'],
    [['bench', 'm.onnx', '--input', 'x'], '--input must be like image=1x3x224x224, got "x"'],
    [[], 'Usage: infermux'],
  ])('%j exits with 2 and a sentence', async (args, sentence) => {
    const { code, stdout, stderr } = await infermux(...args);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(sentence);
  });
});
