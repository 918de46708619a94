import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { modelDirectory, slowLoadModel, slowRunModel } from './onnx-models.js';

const CHILD = fileURLToPath(new URL('./ending-child.mjs', import.meta.url));
const TIMES = 20;
/** The calls take about twice as long on an idle machine, so that every ending falls into the middle of one. */
const LATEST_MS = 80;
/** A child that takes longer hangs: it is killed, which shows as its signal. On a busy machine one takes more than 6 s. */
const LONGEST_MS = 15_000;

const endings = [
  { ending: 'close', code: 0, answers: { ok: 4, codes: [] } },
  { ending: 'destroy', code: 0, answers: { ok: 0, codes: Array(4).fill('ENGINE_CLOSED') } },
  { ending: 'leave', code: 0, answers: { ok: 4, codes: [] } },
  { ending: 'exit', code: 7, answers: undefined },
  { ending: 'uncaught', code: 1, answers: undefined },
  { ending: 'sigterm', code: 0, answers: undefined },
];

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

function runChild(args: readonly string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CHILD, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: LONGEST_MS,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Describes how a process ends while all replicas are inside a run or a load. */
export function describeEndings(phase: 'run' | 'load'): void {
  describe(`while all replicas are inside a ${phase}`, () => {
    let directory: string;

    beforeAll(() => {
      const model = phase === 'run' ? slowRunModel(80) : slowLoadModel(14);
      directory = modelDirectory({ 'slow-a': model, 'slow-b': model });
    });

    it.each(endings)(
      `$ending ends the process with its code, ${TIMES} times of ${TIMES}`,
      async ({ ending, code, answers }) => {
        const delays = Array.from({ length: TIMES }, (_, index) => Math.round((index * LATEST_MS) / TIMES));
        for (const delayMs of delays) {
          const ended = await runChild([directory, phase, ending, String(delayMs)]);
          const context = `after ${delayMs} ms: ${ended.stderr}`;
          expect({ code: ended.code, signal: ended.signal }, context).toEqual({ code, signal: null });
          if (answers !== undefined) expect(JSON.parse(ended.stdout), context).toEqual(answers);
        }
      },
      TIMES * LONGEST_MS,
    );
  });
}
