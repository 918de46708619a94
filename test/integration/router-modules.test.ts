import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine } from '../../dist/index.js';
import { directory } from '../support/directories.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';

const models = modelDirectory({ 'times-2': scaleModel(2) });
const row = { x: { dims: [1, 4], data: Float32Array.of(1, 0, 0, 0) } };
const MODULE = new URL('../support/label-router.mjs', import.meta.url);
const labels = [{ zone: 'a' }, { zone: 'b' }];

let engine: InferenceEngine;
let logged: string[];

async function start(options: EngineOptions = {}): Promise<void> {
  logged = [];
  const nothing = () => undefined;
  const note = ((_: object, message: string) => logged.push(message)) as never;
  const logger = { debug: nothing, info: nothing, warn: note, error: note };
  engine = await createEngine({ models, replicas: 2, labels, logger, ...options });
}

/** The zones that ten requests go to. */
async function zones(): Promise<(string | undefined)[]> {
  const zoneOf = new Map(engine.status().replicas.map(({ id, labels: own }) => [id, own['zone']]));
  const answers = await Promise.all(Array.from({ length: 10 }, () => engine.infer({ target: 'times-2', feeds: row })));
  return [...new Set(answers.map(({ replica }) => zoneOf.get(replica)))];
}

afterEach(() => engine?.destroy());

describe('a router that a module exports', () => {
  it('routes, and can be changed while the engine runs', async () => {
    await start({ router: { module: MODULE, options: { zone: 'a' } } });
    expect(await zones()).toEqual(['a']);
    await engine.deployments.update('default', { router: { module: MODULE, options: { zone: 'b' } } });
    expect(await zones()).toEqual(['b']);
    const { options } = engine.deployments.get('default');
    expect(options.router).toMatchObject({ module: MODULE.href, options: { zone: 'b' } });
  });

  it('stays the same router when other options change, or when it is named again', async () => {
    const file = join(directory(), 'router.mjs');
    const text =
      'export default () => ({ asked: (globalThis.made = (globalThis.made ?? 0) + 1), chooseReplicas: (all) => [all] });';
    writeFileSync(file, text);
    await start({ router: { module: file } });
    await engine.deployments.update('default', { maxQueuedRequests: 77 });
    await engine.deployments.update('default', { router: { module: file } });
    expect((globalThis as { made?: number }).made).toBe(1);
    expect(await zones()).not.toEqual([]);
  });

  it('comes back from a checkpoint; and when it is gone, the default one routes', async () => {
    const folder = directory();
    const checkpoint = { file: join(folder, 'checkpoint.json') };
    const file = join(folder, 'router.mjs');
    writeFileSync(file, `export { default } from ${JSON.stringify(MODULE.href)};`);
    await start({ checkpoint });
    await engine.deployments.update('default', { router: { module: file, options: { zone: 'b' } } });
    await engine.close();
    await start({ checkpoint });
    expect(await zones()).toEqual(['b']);
    await engine.close();
    rmSync(file);
    await start({ checkpoint });
    expect(await zones()).not.toEqual([]);
    expect(logged).toContain('the router of a checkpoint cannot be had');
  });

  it('may be a class, also one whose chooseReplicas is a field, or come from an async function', async () => {
    const choose = '(replicas) => [replicas.filter(({ labels }) => labels.zone === this.zone)]';
    const field = `export default class { zone = 'b'; chooseReplicas = ${choose}; }`;
    const options = `export default async (options) => new (class { zone = options.zone; chooseReplicas = ${choose}; })();`;
    await start({ router: { module: broken(field) } });
    expect(await zones()).toEqual(['b']);
    await engine.deployments.update('default', { router: { module: broken(options), options: { zone: 'a' } } });
    expect(await zones()).toEqual(['a']);
  });

  it('and is never imported whole keeps no engine open', async () => {
    await start();
    const file = broken(`process.emit('router-begun'); await new Promise(() => undefined); export default {};`);
    const begun = new Promise((resolve) => process.once('router-begun' as never, resolve as never));
    const updated = engine.deployments.update('default', { router: { module: file } }).catch((error) => error.code);
    const other = engine.deployments.delete('none').catch((error) => error.code);
    await begun;
    await engine.close();
    expect(await Promise.all([updated, other])).toEqual(['ENGINE_CLOSED', 'ENGINE_CLOSED']);
  });

  const broken = (text: string) => {
    const file = join(directory(), 'router.mjs');
    writeFileSync(file, text);
    return file;
  };
  it.each<[string, () => unknown, string]>([
    ['is not there', () => ({ module: './none.mjs' }), 'could not be imported: ENOENT'],
    ['exports no router', () => ({ module: broken('export default {};') }), 'must be a router'],
    ['exports nothing by default', () => ({ module: broken('export const a = 1;') }), 'must be a router'],
    ['throws', () => ({ module: broken('export default () => { throw new Error("no"); };') }), 'could not be made: no'],
    [
      'has options that JSON changes',
      () => ({ module: MODULE, options: { zone: new Date(0) } }),
      'what JSON can carry',
    ],
    ['is a folder', () => ({ module: directory() }), 'not a regular file'],
    ['has an unknown key', () => ({ module: MODULE, option: 1 }), 'unknown key "option"'],
    ['has an address that is none', () => ({ module: 'https://example.org/router.mjs' }), 'a path or a file: URL'],
  ])('and %s is refused', async (_, router, message) => {
    const named = { code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) };
    await expect(start({ router: router() as never })).rejects.toMatchObject(named);
    await start();
    await expect(engine.deployments.update('default', { router: router() as never })).rejects.toMatchObject(named);
    expect(await zones()).not.toEqual([]);
  });
});

describe('hints', () => {
  it('reach the router as they were when the request was made', async () => {
    const seen: unknown[] = [];
    await start({
      router: {
        chooseReplicas: (candidates, { hints }) => {
          seen.push(hints);
          return [candidates];
        },
      },
    });
    const hints = { tokens: 3, tenant: 'ada', cheap: true };
    const answer = engine.run('times-2', row, { hints });
    hints.tokens = 4;
    await answer;
    expect(seen[0]).toEqual({ tokens: 3, tenant: 'ada', cheap: true });
  });

  it.each([
    [null],
    [7],
    [{ a: {} }],
    [{ a: null }],
    [['x']],
    [Object.fromEntries(Array.from({ length: 1_025 }, (_, index) => [index, 1]))],
  ])('that are none are refused: %o', async (hints) => {
    await start();
    await expect(engine.run('times-2', row, { hints: hints as never })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('runOptions.hints'),
    });
  });
});
