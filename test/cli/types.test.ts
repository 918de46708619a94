import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { declarationsOf } from '../../dist/cli/models/declarations.js';
import { directory } from '../support/directories.js';
import { infermux } from '../support/infermux.js';
import { identityModel, scaleModel } from '../support/onnx-models.js';
import { TENSOR_TYPES } from '../support/tensors.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TSC = join(ROOT, 'node_modules', 'typescript', 'lib', 'tsc.js');

/** A user's folder: the package is installed in it, and its models have types. */
const user = directory({
  'models/times-2.onnx': scaleModel(2),
  "models/it's odd/1/model.onnx": scaleModel(3),
  // Three versions: the first takes something else.
  'models/moved/model.json': '{ "versions": "all" }',
  'models/moved/1/model.onnx': identityModel(['int64']),
  'models/moved/2/model.onnx': scaleModel(2),
  'models/moved/3/model.onnx': scaleModel(3),
  'models/every-type.onnx': identityModel(TENSOR_TYPES),
});
const types = join(user, 'models.d.ts');

beforeAll(async () => {
  mkdirSync(join(user, 'node_modules'));
  symlinkSync(ROOT, join(user, 'node_modules', 'infermux'), 'dir');
  symlinkSync(join(ROOT, 'node_modules', 'onnxruntime-node'), join(user, 'node_modules', 'onnxruntime-node'), 'dir');
  symlinkSync(join(ROOT, 'node_modules', '@types'), join(user, 'node_modules', '@types'), 'dir');
  writeFileSync(join(user, 'package.json'), '{ "type": "module" }');
  expect(await infermux('types', join(user, 'models'), '-o', types)).toMatchObject({ code: 0, stdout: '' });
});

const BEGINNING = `
import { createEngine, type InferenceEngine } from 'infermux';
import { connect } from 'infermux/client';
import { createServer } from 'infermux/server';
import * as ort from 'onnxruntime-node';
import type { Models } from './models.js';
const engine = await createEngine<Models>({ models: 'models' });
const client = await connect<Models>('http://localhost:8000');
const x = { dims: [1, 4], data: new Float32Array(4) };
`;

/** Programs that are right. */
const GOOD: Readonly<Record<string, string>> = {
  'reads outputs by name, as arrays of their type':
    "const { y } = await engine.run('times-2', { x }); export const data: Float32Array = y.data;",
  'names a version, or a deployment':
    "export const all = [(await engine.run('times-2@1', { x })).y, (await engine.run('gpu/times-2', { x })).y, (await engine.run('gpu/times-2@1', { x })).y, (await engine.run(\"it's odd\", { x })).y];",
  'names a version that takes something else':
    "export const all = [(await engine.run('moved', { x })).y, (await engine.run('moved@2', { x })).y, (await engine.run('moved@1', { in0: { dims: [1], data: [1] } })).out0, (await engine.run('gpu/moved@1', { in0: { dims: [1], data: [1] } })).out0];",
  'gets the outputs that it names': `
    const { outputs } = await engine.infer({ target: 'every-type', feeds, outputs: ['out9', 'out12'] });
    export const [ids, texts]: [BigInt64Array, readonly string[]] = [outputs.out9.data, outputs.out12.data];`,
  'feeds tensors of onnxruntime, allocated ones and plain arrays': `
    await engine.run('times-2', { x: new ort.Tensor('float32', new Float32Array(4), [1, 4]) });
    await engine.run('times-2', { x: engine.allocate('float32', [1, 4]) });
    await engine.run('times-2', { x: { dims: [1, 4], data: [1, 2, 3, 4] } });`,
  'gives handlers what they take': "export const answer: number = await engine.run<number>('app', { any: 'thing' });",
  'asks a server as it asks an engine':
    "export const data: Float32Array = (await client.run('times-2', { x }, { timeoutMs: 100 })).y.data;",
  'asks a server for details, too': `
    const { outputs } = await client.infer({ target: 'times-2', feeds: { x } });
    export const data: Float32Array = outputs.y.data;
    export const answer: number = (await client.infer<number>({ target: 'app', feeds: 'thing' })).outputs;`,
  'passes its engine on as an engine of any models':
    'export const any: InferenceEngine = engine; await createServer(engine);',
  'does without types': `
    const untyped = await createEngine();
    export const { y } = await untyped.run('whatever', { x });
    if (y?.type === 'int64') { const data: BigInt64Array = y.data; void data; }`,
};

/** Programs that are wrong, and what the compiler says of each. */
const BAD: Readonly<Record<string, readonly [string, string]>> = {
  'a model that is not there': ["await engine.run('times-3', { x });", '"times-3"'],
  'an input that is not there': ["await engine.run('times-2', { image: x });", "'image' does not exist"],
  'an input that this version does not have': ["await engine.run('moved@1', { x });", "'x' does not exist"],
  'an input that only another version has': [
    "await engine.run('gpu/moved@3', { in0: { dims: [1], data: [1] } });",
    "'in0' does not exist",
  ],
  'an input that is missing': ["await engine.run('times-2', {});", "Property 'x' is missing"],
  'elements of another type': [
    "await engine.run('times-2', { x: { dims: [4], data: new Float64Array(4) } });",
    'Float64Array',
  ],
  'an array of bool that could be of uint8': [
    "await engine.run('every-type', { ...feeds, in11: { dims: [1], data: new Uint8Array(1) } });",
    'FeedOf<"bool">',
  ],
  'an output that is not there': ["export const { z } = await engine.run('times-2', { x });", "'z' does not exist"],
  'an output that was not asked for': [
    "export const { out0 } = await engine.run('every-type', feeds, { outputs: ['out1'] });",
    "'out0' does not exist",
  ],
  'an output to ask for that is not there': ["await engine.run('times-2', { x }, { outputs: ['z'] });", '\'"z"\''],
  'what is no array of the output': [
    "export const data: BigInt64Array = (await engine.run('times-2', { x })).y.data;",
    'BigInt64Array',
  ],
  'the same in infer': ["await engine.infer({ target: 'times-2', feeds: { z: x } });", "'z' does not exist"],
  'the same in a client': ["await client.run('times-3', { x });", '"times-3"'],
};

const ALL_FEEDS = `const feeds = {
  ${TENSOR_TYPES.map((type, index) => {
    const data = type === 'string' ? "['a']" : type === 'bool' ? '[true]' : '[1]';
    return `in${index}: { dims: [1], data: ${data} }`;
  }).join(',\n  ')}
};\n`;

/** Resolves to what the compiler says of programs, by name. */
async function compile(programs: Readonly<Record<string, string>>, module: string, resolution: string) {
  for (const [name, text] of Object.entries(programs)) {
    writeFileSync(
      join(user, `${name}.ts`),
      `${BEGINNING}${ALL_FEEDS}${text}\nvoid [client, feeds, x, ort];\nexport {};\n`,
    );
  }
  const options = { module, moduleResolution: resolution, target: 'es2023', strict: true, noEmit: true };
  const checks = { skipLibCheck: false, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true };
  const files = Object.keys(programs).map((name) => `${name}.ts`);
  writeFileSync(join(user, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...options, ...checks }, files }));
  return new Promise<string>((resolve) => {
    execFile(process.execPath, [TSC, '--pretty', 'false', '--singleThreaded'], { cwd: user }, (_, stdout, stderr) =>
      resolve(stdout + stderr),
    );
  });
}

describe.each([
  ['node16', 'node16'],
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
])('with the types of its models, and the module resolution %s, %s', (module, resolution) => {
  it('the compiler takes good programs, and refuses bad ones for the right reason', async () => {
    const good = Object.fromEntries(Object.values(GOOD).map((text, index) => [`good-${index}`, text]));
    const bad = Object.fromEntries(Object.values(BAD).map(([text], index) => [`bad-${index}`, text]));
    const lines = (await compile({ ...good, ...bad }, module, resolution)).split(/\n(?=\S)/);
    const said = (name: string) => lines.filter((line) => line.startsWith(`${name}.ts(`)).join('\n');
    const wrong = Object.keys(GOOD).flatMap((what, index) => said(`good-${index}`) && [what, said(`good-${index}`)]);
    expect(wrong.filter((each) => each !== '')).toStrictEqual([]);
    for (const [index, [what, [, reason]]] of Object.entries(BAD).entries()) {
      expect(said(`bad-${index}`), what).toContain(reason);
    }
    // Nor do the package's own declarations have a fault.
    expect(lines.filter((line) => line !== '' && !line.startsWith('bad-'))).toStrictEqual([]);
  });
});

describe('infermux types', () => {
  it('prints without --output, and says whether a file is up to date', async () => {
    const printed = await infermux('types', join(user, 'models'));
    expect(printed).toMatchObject({ code: 0, stdout: readFileSync(types, 'utf8') });
    const { mtimeMs } = statSync(types);
    const again = await infermux('types', join(user, 'models'), '--output', types, '--check');
    expect(again).toMatchObject({ code: 0 });
    expect(again.stderr).toContain('is up to date: 4 models');
    expect(statSync(types).mtimeMs).toBe(mtimeMs);
    const old = directory({ 'models.d.ts': 'export interface Models {}\n' });
    const checked = await infermux('types', join(user, 'models'), '-o', join(old, 'models.d.ts'), '--check');
    expect(checked).toMatchObject({ code: 1 });
    expect(checked.stderr).toContain('is not up to date: run infermux types again');
    expect(readFileSync(join(old, 'models.d.ts'), 'utf8')).toBe('export interface Models {}\n');
  });

  it('leaves out what cannot be loaded, and says so', async () => {
    const models = directory({ 'good.onnx': scaleModel(2), 'bad.onnx': Uint8Array.of(8, 1, 2) });
    const { code, stdout, stderr } = await infermux('types', models);
    expect(code).toBe(1);
    expect(stdout).toContain('  good: {');
    expect(stdout).not.toContain('bad');
    expect(stderr).toContain('infermux: bad@1: ');
    const fresh = join(directory({}), 'models.d.ts');
    expect(await infermux('types', models, '-o', fresh)).toMatchObject({ code: 1 });
    expect(readFileSync(fresh, 'utf8')).toBe(stdout);
    // A file that knows all of them is not replaced by one that does not.
    const old = join(directory({ 'models.d.ts': 'before' }), 'models.d.ts');
    expect((await infermux('types', models, '-o', old)).stderr).toContain('stays as it is');
    expect(readFileSync(old, 'utf8')).toBe('before');
  });

  it.each([
    [['--check'], 2, "option '--check' needs '--output'"],
    [[], 1, 'no model was found'],
    [['-o', '/no/such/folder/models.d.ts'], 2, 'expected a file that can be written'],
  ])('%j is a mistake', async (flags, code, message) => {
    const result = await infermux('types', directory({}), ...flags);
    expect(result).toMatchObject({ code });
    expect(result.stderr).toContain(message);
  });

  it('shows any name as what it is', () => {
    const text = declarationsOf([
      {
        ...{ id: 'a\'b"c\\d\n', version: 1, isDefault: true },
        inputs: [{ name: '__proto__', type: 'float32', shape: ['*/ evil', '', 3] }],
        outputs: [{ name: 'is fine', type: 'int64', shape: [] }],
      },
      { id: 'nothing', version: 1, isDefault: true, inputs: [], outputs: [] },
    ]);
    expect(text).toContain('  "a\'b\\"c\\\\d\\n": {');
    expect(text).toContain('      /** [*\\/ evil, ?, 3] */\n      __proto__: FeedOf<');
    expect(text).toContain('      "is fine": TensorOf<"int64">;');
    expect(text).toContain('    inputs: Record<never, never>;');
  });
});
