import { createRequire } from 'node:module';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RunMessage, WorkerSettings } from '../../../dist/protocol/messages.js';
import { QueueCounters } from '../../../dist/protocol/queue-counters.js';
import { WorkerThread } from '../../../dist/replicas/threads/worker-thread.js';
import { RUNTIME_SETTINGS } from '../../support/runtime-settings.js';

const echo = new URL('../../support/echo-worker.mjs', import.meta.url);

let thread: WorkerThread;

function createThread(entry: URL, own: Partial<WorkerSettings> = {}): WorkerThread {
  const all = new QueueCounters(1);
  const { slot, counters } = all.take() as NonNullable<ReturnType<QueueCounters['take']>>;
  const shared = { counters: all.memory, counterSlot: slot, fileHashes: new SharedArrayBuffer(0) };
  const settings = { ...RUNTIME_SETTINGS, ...shared, ...own };
  return new WorkerThread({ entry, settings, resourceLimits: undefined }, counters);
}

beforeEach(() => {
  thread = createThread(echo);
});

afterEach(async () => {
  thread.terminate();
  await thread.ended;
});

const message = (key: string): RunMessage => ({
  kind: 'run',
  model: key,
  definition: undefined,
  groups: [],
  spare: undefined,
  verify: false,
});

async function ask(key: string): Promise<string> {
  const answer = (await thread.post(message(key))) as { value: string };
  return answer.value;
}

describe('a thread', () => {
  it('may post what is not for its owner', async () => {
    expect(await ask('foreign')).toBe('foreign');
    expect(await ask('now')).toBe('now');
  });
});

describe('a thread that does not get as far as its first message', () => {
  const failing = async (own: WorkerThread): Promise<[string | undefined, string]> => {
    const answer = own.post({ kind: 'hello' });
    const cause = await own.ended;
    own.rejectAll(new Error('it is gone'));
    return [cause?.message, await answer.then(String, ({ message }: Error) => message)];
  };

  it.each([
    ['fails at its start', 'broken-worker.mjs', 'broken at the start'],
    ['exits at its start', 'exiting-worker.mjs', 'worker exited with code: 5'],
    ['has no entry', 'no-such-worker.mjs', 'keep infermux and onnxruntime-node out of it'],
  ])('because it %s says why it ended', async (_, file, reason) => {
    const [cause, answer] = await failing(createThread(new URL(`../../support/${file}`, import.meta.url)));
    expect(cause).toContain(reason);
    expect(answer).toBe('it is gone');
  });

  it('because its settings cannot be sent ends too', async () => {
    const [cause] = await failing(createThread(echo, { userConfig: () => 'a function' }));
    expect(cause).toContain('could not be cloned');
  });

  it('because the system creates no more threads fails the message that was to start it', async () => {
    const threads = createRequire(import.meta.url)('node:worker_threads');
    const { Worker } = threads;
    const own = createThread(echo);
    try {
      threads.Worker = class {
        constructor() {
          throw new Error('no more threads');
        }
      };
      await expect(own.post({ kind: 'hello' })).rejects.toThrow('no more threads');
    } finally {
      threads.Worker = Worker;
    }
    expect((await own.ended)?.message).toBe('no more threads');
    await expect(own.post({ kind: 'hello' })).rejects.toThrow('no more threads');
  });
});
