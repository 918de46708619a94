import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { directory } from '../support/directories.js';
import { countingModel, deepModel, divisionModel, fillingModel } from '../support/hazard-models.js';
import { infermux, MAIN } from '../support/infermux.js';
import {
  endlessLoadModel,
  endlessRunModel,
  oddOutputsModel,
  scaleModel,
  trapModel,
  trapRunModel,
} from '../support/onnx-models.js';
import { until } from '../support/until.js';

describe.runIf(process.arch === 'x64')('a model that kills its process', () => {
  const root = directory({
    'a.onnx': scaleModel(2),
    'trap/model.onnx': trapModel(),
    'trap/model.json': '{ "pinned": true }',
    'trap-run.onnx': trapRunModel(),
    'z.onnx': scaleModel(2),
  });
  const killed = 'killed its process: SIGFPE while it was loaded. It would end a server, too: do not serve it';

  it('is named by models check, which checks the others too', async () => {
    const { code, stdout, stderr } = await infermux('models', 'check', root, '--json');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    const { models, problems } = JSON.parse(stdout);
    expect(models.map(({ id }: { id: string }) => id)).toEqual(['a', 'trap', 'trap-run', 'z']);
    expect(problems).toEqual([{ model: 'trap@1', problem: killed }]);
    expect((await infermux('models', 'check', root)).stdout).toContain(`problem: trap@1: ${killed}`);
  }, 60_000);

  it('is not loaded by models list, although it is pinned', async () => {
    const { code, stdout } = await infermux('models', 'list', root, '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout).models).toContainEqual(expect.objectContaining({ id: 'trap', isPinned: true }));
  });

  it('is named by inspect and bench, also when a run kills it', async () => {
    const path = join(root, 'trap', 'model.onnx');
    for (const command of ['inspect', 'bench']) {
      const { code, stdout, stderr } = await infermux(command, path);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toBe(`infermux: model ${JSON.stringify(path)} ${killed}\n`);
    }
    const { code, stderr } = await infermux('bench', join(root, 'trap-run.onnx'), '--callers', '1', '--replicas', '1');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^infermux: model ".*trap-run\.onnx" killed its process: SIGFPE while it ran\. .*\n$/);
  }, 60_000);
});

describe('models check --isolated', () => {
  it('survives every hazard, and names those that show when a model is loaded', async () => {
    const root = directory({
      'counting.onnx': countingModel(),
      'deep.onnx': deepModel(5_000),
      'division.onnx': divisionModel(),
      'double.onnx': scaleModel(2),
      'endless.onnx': endlessRunModel(),
      'filling.onnx': fillingModel(),
      'int4.onnx': oddOutputsModel(['int4'], false),
      // Its warm-up run asks for 4 TB.
      'warm/model.onnx': fillingModel(),
      'warm/model.json': JSON.stringify({ warmUp: [{ x: { dims: [1], data: [2 ** 40] } }] }),
    });
    const { code, stdout, stderr } = await infermux('models', 'check', root, '--isolated', '--json');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    const problems = Object.fromEntries(
      (JSON.parse(stdout) as { problems: { model: string; problem: string }[] }).problems.map(({ model, problem }) => [
        model,
        problem,
      ]),
    );
    expect(problems).toEqual({
      'deep@1': expect.stringContaining('killed its process: SIGSEGV'),
      'int4@1': expect.stringContaining('int4'),
      'warm@1': expect.stringContaining('warm'),
    });
  }, 90_000);

  it('survives their inspection', async () => {
    const root = directory({ 'deep.onnx': deepModel(5_000), 'int4.onnx': oddOutputsModel(['int4'], false) });
    for (const name of ['deep', 'int4']) {
      const { code, stderr } = await infermux('inspect', join(root, `${name}.onnx`));
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/SIGSEGV|int4/) });
    }
  }, 60_000);
});

describe('a model whose load or run does not end', () => {
  const root = directory({
    'a.onnx': scaleModel(2),
    'endless.onnx': endlessLoadModel(),
    'run.onnx': endlessRunModel(),
    'z.onnx': scaleModel(2),
  });
  const late = 'did not load within 4 s. Perhaps it never does';

  it('is named by models check, which checks the others too', async () => {
    const { code, stdout } = await infermux('models', 'check', root, '--timeout', '4', '--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout).problems).toEqual([{ model: 'endless@1', problem: expect.stringContaining(late) }]);
  }, 60_000);

  it('is named by inspect and bench', async () => {
    const inspected = await infermux('inspect', join(root, 'endless.onnx'), '--timeout', '4');
    expect(inspected).toMatchObject({ code: 1, stderr: expect.stringMatching(`endless.onnx" ${late}`) });
    const benched = await infermux('bench', join(root, 'run.onnx'), '--timeout', '4');
    expect(benched).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/run\.onnx" did not end a run within 4 s/),
    });
  }, 60_000);

  it.each([
    ['--timeout', 'soon'],
    ['--timeout', '0'],
  ])('%s %s is no limit', async (...limit) => {
    const { code, stderr } = await infermux('inspect', join(root, 'a.onnx'), ...limit);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining('expected seconds: a number from 0.01'),
    });
  });

  it.runIf(process.platform === 'linux').each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)(
    'leaves no process behind when the command is ended by %s',
    async (signal) => {
      const command = spawn(process.execPath, [MAIN, 'inspect', join(root, 'endless.onnx')], { stdio: 'ignore' });
      try {
        await until(() => childrenOf(command).length > 0);
        const [child] = childrenOf(command);
        const isGone = () => !existsSync(`/proc/${child}/stat`) || stateOf(child) === 'Z';
        await until(() => readFileSync(`/proc/${child}/oom_score_adj`, 'utf8').trim() === '1000');
        expect(isGone()).toBe(false);
        command.kill(signal);
        await once(command, 'exit');
        await until(isGone);
      } finally {
        command.kill('SIGKILL');
      }
    },
    60_000,
  );
});

/** The processes that the process has started. */
function childrenOf({ pid }: ChildProcess): string[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
}

function stateOf(pid: string | undefined): string | undefined {
  return /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1];
}
