import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RunMessage, WorkerSettings } from '../../../dist/protocol/messages.js';
import { QueueCounters } from '../../../dist/protocol/queue-counters.js';
import { WorkerThread } from '../../../dist/replicas/threads/worker-thread.js';

const echo = new URL('../../support/echo-worker.mjs', import.meta.url);

let thread: WorkerThread;

function createThread(entry: URL, own: Partial<WorkerSettings> = {}): WorkerThread {
  const all = new QueueCounters(1);
  const { slot, counters } = all.take() as NonNullable<ReturnType<QueueCounters['take']>>;
  const settings = {
    replica: 'r0',
    counters: all.memory,
    counterSlot: slot,
    eviction: 'lru',
    maxModels: 1,
    maxModelBytes: -1,
    modelIdleTimeoutMs: -1,
    session: {},
    device: undefined,
    handler: undefined,
    userConfig: undefined,
    handlerTimeouts: { loadModelMs: 1, disposeMs: 1, reconfigureMs: 1 },
    isExpress: false,
    weights: 'private',
    weightStore: { directory: '', maxBytes: 1 },
    fileHashes: new SharedArrayBuffer(0),
    ...own,
  } as const;
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
  it('answers every message, however they come: while it spins, sleeps, works, or its event loop runs', async () => {
    const gaps = [0, 0, 0, 0.02, 0.1, 0.3, 1];
    for (let round = 0; round < 300; round += 1) {
      const keys = Array.from(
        { length: (round % 4) + 1 },
        (_, index) => `${index % 3 === 2 ? 'later' : 'now'} ${round}`,
      );
      const answers = Promise.all(keys.map(ask));
      expect(await answers).toEqual(keys);
      const gap = gaps[round % gaps.length] as number;
      if (gap >= 1) await sleep(gap);
      else for (const end = performance.now() + gap; performance.now() < end; );
    }
  });

  it('answers one message before it looks at the next, so that none waits for those behind it', async () => {
    const story: string[] = [];
    thread.onEvent((event) => story.push(`begins ${'key' in event ? event.key : ''}`));
    await Promise.all(['a', 'b', 'c'].map(async (key) => story.push(`answers ${await ask(key)}`)));
    expect(story).toEqual(['begins a', 'answers a', 'begins b', 'answers b', 'begins c', 'answers c']);
  });

  it('has a turn of its event loop now and then, while one message follows the other', async () => {
    const answers: string[] = [];
    // After 256 messages it asks for a turn, and Node may hand its port a thousand more before.
    for (let message = 0; message < 1_500; message += 1) answers.push(await ask('turned?'));
    expect([answers[0], answers.at(-1)]).toEqual(['no', 'yes']);
  });

  it('may post what is not for its owner', async () => {
    expect(await ask('foreign')).toBe('foreign');
    expect(await ask('now')).toBe('now');
  });

  it.each([
    ['throw', 'thrown in the thread'],
    ['exit', 'worker exited with code: 3'],
  ])('that ends by %s says why, and leaves what it was given to its owner', async (key, reason) => {
    let rejection: unknown;
    const answer = ask(key).catch((error: unknown) => {
      rejection = error;
    });
    expect((await thread.ended)?.message).toBe(reason);
    expect(rejection).toBeUndefined();
    await expect(ask('now')).rejects.toThrow(reason);
    thread.rejectAll(new Error('it is gone'));
    await answer;
    expect(rejection).toMatchObject({ message: 'it is gone' });
  });

  it('tells the oldest message that it has not answered, also after the sender was rejected', async () => {
    expect(await ask('now 1')).toBe('now 1');
    expect(thread.unanswered).toBeUndefined();
    const asked = [ask('throw'), ask('now 2')].map((answer) => answer.catch(() => 'rejected'));
    expect(thread.unanswered).toMatchObject({ model: 'throw' });
    thread.rejectAll(new Error('given up'));
    expect(await Promise.all(asked)).toEqual(['rejected', 'rejected']);
    expect(thread.unanswered).toMatchObject({ model: 'throw' });
    await thread.ended;
  });

  it('that was never started ends at once', async () => {
    thread.terminate();
    expect(await thread.ended).toBeUndefined();
    await expect(ask('now')).rejects.toThrow('the thread is gone');
  });

  it('that was told to release its sessions answers what came before, and then nothing more', async () => {
    const answers = ['later 1', 'now 2'].map(ask);
    expect(await Promise.all([...answers, thread.post({ kind: 'release' })])).toEqual([
      'later 1',
      'now 2',
      { value: undefined },
    ]);
    let isAnswered = false;
    const late = ask('now 3').finally(() => {
      isAnswered = true;
    });
    thread.terminate();
    expect(await thread.ended).toBeUndefined();
    expect(isAnswered).toBe(false);
    thread.rejectAll(new Error('too late'));
    await expect(late).rejects.toThrow('too late');
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
