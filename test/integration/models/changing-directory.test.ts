import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine, InfermuxError } from '../../../dist/index.js';
import { directory, writeFiles } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
let logged: string[];
const { ask, metric } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine, logged } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('a directory that changes under traffic', () => {
  it('loses no request: new, changed, half-written, broken, removed and unreadable', async () => {
    const root = directory({ 'steady.onnx': scaleModel(2), 'changing.onnx': scaleModel(10) });
    await start(root, { repository: { pollMs: 10, settleMs: 10 } });
    let isOver = false;
    let answered = 0;
    const strange: unknown[] = [];
    let allowed = new Set<unknown>([10]);
    const caller = async (target: string, mayBe: () => ReadonlySet<unknown>) => {
      while (!isOver && engine.status().state === 'running') {
        // What was accepted before a change is answered as it was.
        const accepted = mayBe();
        const answer = await ask(target).catch((error: InfermuxError) => error.code);
        if (!accepted.has(answer) && !mayBe().has(answer)) strange.push([target, answer]);
        answered += 1;
        // A refusal is there at once, and nothing else would have its turn.
        await new Promise(setImmediate);
      }
    };
    const steady = new Set([2]);
    const callers = [
      ...Array.from({ length: 4 }, () => caller('steady', () => steady)),
      ...Array.from({ length: 4 }, () => caller('changing', () => allowed)),
    ];
    const more = async () => {
      const before = answered;
      await until(() => answered > before + 100);
    };
    const onlyFrom = async (factor: number) => {
      allowed = new Set([factor]);
      await more();
    };

    await more();
    writeFiles(root, { 'new.onnx': scaleModel(5) });
    await until(() => engine.models.list().some(({ id }) => id === 'new'));
    expect(await ask('new')).toBe(5);

    allowed = new Set([10, 20]);
    writeFileSync(join(root, '.next'), scaleModel(20));
    renameSync(join(root, '.next'), join(root, 'changing.onnx'));
    await until(() => logged.includes('model changed: changing'));
    await onlyFrom(20);

    // In place and piece by piece, as a copy does it.
    const next = scaleModel(30);
    writeFileSync(join(root, 'changing.onnx'), next.subarray(0, next.length / 2));
    await until(() => engine.models.get('changing').problem !== undefined);
    await more();
    allowed = new Set([20, 30]);
    writeFileSync(join(root, 'changing.onnx'), next);
    await until(() => logged.filter((line) => line === 'model changed: changing').length === 2);
    await onlyFrom(30);

    rmSync(join(root, 'new.onnx'));
    await until(() => !engine.models.list().some(({ id }) => id === 'new'));
    expect(await code(ask('new'))).toBe('MODEL_NOT_FOUND');

    renameSync(root, `${root}-away`);
    await until(() => logged.some((line) => line.startsWith('the directory of models cannot be read')));
    await more();
    expect(await code(engine.models.sync())).toBe('FAILED_PRECONDITION');
    renameSync(`${root}-away`, root);
    await until(() => logged.includes('the directory of models can be read again'));

    allowed = new Set([30, 'MODEL_NOT_FOUND']);
    rmSync(join(root, 'changing.onnx'));
    await until(() => !engine.models.list().some(({ id }) => id === 'changing'));
    await more();
    isOver = true;
    await Promise.all(callers);
    expect(strange).toEqual([]);
    const others = () => engine.status().replicas.flatMap(({ models }) => models.filter(({ id }) => id !== 'steady'));
    await until(() => others().length === 0);
  });

  it('keeps a version that works when a broken one comes, even where there is place for one session only', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2) });
    await start(root, { replicas: 1, maxModelsPerReplica: 1 });
    expect(await ask('a')).toBe(2);
    writeFiles(root, { 'a/2/model.onnx': 'no model' });
    const report = await engine.models.sync();
    expect(report.failed).toMatchObject([{ id: 'a', error: { code: 'MODEL_LOAD_FAILED' } }]);
    expect(await ask('a')).toBe(2);
    expect(await metric('infermux_model_unloads_total')).toBe(0);
    writeFiles(root, { 'a/3/model.onnx': scaleModel(4) });
    expect(await engine.models.sync()).toMatchObject({ changed: ['a'] });
    expect(await ask('a')).toBe(4);
    expect(engine.status().replicas[0]?.models).toEqual([
      { id: 'a', version: 3, state: 'loaded', wide: false, weights: 'private' },
    ]);
  });

  it('finishes what is half copied when the engine starts, though it is not followed', async () => {
    const root = directory();
    const model = scaleModel(2);
    mkdirSync(join(root, 'a'));
    let length = 0;
    const path = join(root, 'a', 'model.onnx');
    const timer = setInterval(() => {
      length = Math.min(length + 1, model.length);
      writeFileSync(path, model.subarray(0, length));
    }, 1);
    writeFileSync(path, '');
    await start(root, { repository: { settleMs: 40 } });
    clearInterval(timer);
    writeFileSync(path, model);
    await until(() => engine.models.list().length === 1);
    // On a slow machine a half may have looked complete: then the load finds more, and the model is looked at again.
    let answer: unknown;
    do answer = await ask('a').catch((error: InfermuxError) => error.retryable);
    while (answer === true);
    expect(answer).toBe(2);
  });
});
