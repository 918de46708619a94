import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { type Limits, ModelProcess } from '../../../dist/cli/children/model-process.js';
import { directory } from '../../support/directories.js';
import { hungryModel, scaleModel } from '../../support/onnx-models.js';

const FAKE = fileURLToPath(new URL('../../support/model-child.mjs', import.meta.url));

const opened: ModelProcess[] = [];
const open = (...given: ConstructorParameters<typeof ModelProcess>) => {
  const child = new ModelProcess(...given);
  opened.push(child);
  return child;
};

const answerTo = (path: string, limits: Limits = {}) => open(limits, FAKE).ask('inspect', { path });

afterEach(() => {
  for (const child of opened.splice(0)) child.close();
});

describe('a process for models', () => {
  it('answers one job after the other', async () => {
    const child = open({}, FAKE);
    expect(child.isFresh).toBe(true);
    expect(await child.ask('inspect', { path: 'do' })).toMatchObject({ kind: 'result', result: 1 });
    expect(child.isFresh).toBe(false);
    const failed = await child.ask('inspect', { path: 'fail' });
    expect(failed).toMatchObject({ kind: 'error', error: { code: 'INVALID_ARGUMENT', message: 'no' } });
    expect(child.isAlive).toBe(true);
  });

  it('that is killed says by what and when, and what it wrote last, escaped and cut', async () => {
    const answer = await answerTo('die');
    expect(answer).toMatchObject({ kind: 'death', cause: 'exit', phase: 'load' });
    const { reason } = answer as { reason: string };
    expect(reason).toMatch(
      /^killed its process: SIGABRT while it was loaded\. It would end a server, too: do not serve it/,
    );
    expect(reason).toMatch(/The process wrote: x+\\u001b\[31mforged\\nline$/);
    expect(reason.length).toBeLessThan(500);
    expect(await answerTo('die in a run')).toMatchObject({
      ...{ phase: 'run', reason: expect.stringContaining('killed its process: SIGABRT while it ran') },
    });
  });

  it('that exits by itself, or ends before the model began, says so', async () => {
    expect(await answerTo('exit')).toMatchObject({
      reason: expect.stringContaining('exit code 7 while it was loaded'),
    });
    expect(await answerTo('die before')).toMatchObject({
      ...{
        phase: undefined,
        reason: expect.stringMatching(/^was not looked at, .* SIGKILL \(perhaps the system had no/),
      },
    });
  });

  it('is killed when a model takes too long or too much memory, and the reason names the bound', async () => {
    const late = await answerTo('hang', { timeoutSeconds: 0.05 });
    expect(late).toMatchObject({ cause: 'time', reason: expect.stringContaining('did not load within 0.05 s') });
    expect(late).toMatchObject({ reason: expect.stringContaining('--timeout SECONDS') });
    const full = open({ memoryBytes: 2e9 }, FAKE);
    expect(await full.ask('inspect', { path: 'memory' })).toMatchObject({ cause: 'memory' });
    expect(full.isAlive).toBe(false);
  });

  it.runIf(process.platform === 'linux')(
    'sees a model fill its memory, although the load blocks its thread',
    async () => {
      const root = directory({
        'good.onnx': scaleModel(2),
        'hungry/model.onnx': hungryModel(10_000),
        'hungry/model.json': '{ "pinned": true, "warmUp": [{ "x": { "dims": [1] } }] }',
      });
      const child = open({ memoryBytes: 150e6, timeoutSeconds: 100 });
      const check = (model: string) => child.ask('check', { place: { directory: root }, model });
      // A pinned model is not loaded beside the one that is checked.
      expect(await check('good@1')).toMatchObject({ kind: 'result' });
      expect(await check('hungry@1')).toMatchObject({
        ...{ kind: 'death', cause: 'memory', phase: 'load' },
        reason: expect.stringContaining('needed more than 150 MB of memory while it was loaded'),
      });
    },
  );
});
