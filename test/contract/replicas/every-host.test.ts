import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../dist/common/clock.js';
import type { RunMessage } from '../../../dist/protocol/messages.js';
import { QueueCounters } from '../../../dist/protocol/queue-counters.js';
import type { ReplicaHost } from '../../../dist/replicas/hosts/replica-host.js';
import { ReplicaProcess } from '../../../dist/replicas/processes/replica-process.js';
import { WorkerProcess } from '../../../dist/replicas/processes/worker-process.js';
import { WorkerThread } from '../../../dist/replicas/threads/worker-thread.js';
import { RUNTIME_SETTINGS } from '../../support/runtime-settings.js';

const support = (file: string) => new URL(`../../support/${file}`, import.meta.url);
const LAUNCH = { env: {}, execArgv: [], uid: undefined, gid: undefined, isExpress: false };
function create(kind: 'thread' | 'process'): ReplicaHost {
  const all = new QueueCounters(1);
  const { slot, counters } = all.take() as NonNullable<ReturnType<QueueCounters['take']>>;
  if (kind === 'process') {
    const limits = { memoryLimitBytes: undefined, runTimeoutMs: -1 };
    const program = () => new ReplicaProcess(support('echo-process.mjs'), LAUNCH);
    return new WorkerProcess(
      { settings: RUNTIME_SETTINGS, limits, clock: systemClock, process: program },
      all,
      counters,
    );
  }
  const shared = { counters: all.memory, counterSlot: slot, fileHashes: new SharedArrayBuffer(0) };
  const options = { entry: support('echo-worker.mjs'), settings: { ...RUNTIME_SETTINGS, ...shared } };
  return new WorkerThread({ ...options, resourceLimits: undefined }, counters);
}

const message = (key: string): RunMessage => ({
  ...{ kind: 'run', model: key, definition: undefined, groups: [], spare: undefined, verify: false },
});

describe.each(['thread', 'process'] as const)('a replica that is a %s', (kind) => {
  let host: ReplicaHost;

  const ask = async (key: string) => ((await host.post(message(key))) as { value: string }).value;

  beforeEach(() => {
    host = create(kind);
  });

  afterEach(async () => {
    host.terminate();
    await host.ended;
  });

  it('answers every message, however they come', async () => {
    const gaps = [0, 0, 0, 0.02, 0.1, 0.3, 1];
    for (let round = 0; round < 300; round += 1) {
      const keys = Array.from(
        { length: (round % 4) + 1 },
        (_, index) => `${index % 3 === 2 ? 'later' : 'now'} ${round}`,
      );
      expect(await Promise.all(keys.map(ask))).toEqual(keys);
      const gap = gaps[round % gaps.length] as number;
      if (gap >= 1) await sleep(gap);
      else for (const end = performance.now() + gap; performance.now() < end; );
    }
  });

  it('answers one message before it looks at the next, so that none waits for those behind it', async () => {
    const story: string[] = [];
    host.onEvent((event) => story.push(`begins ${'key' in event ? event.key : ''}`));
    await Promise.all(['a', 'b', 'c'].map(async (key) => story.push(`answers ${await ask(key)}`)));
    expect(story).toEqual(['begins a', 'answers a', 'begins b', 'answers b', 'begins c', 'answers c']);
  });

  it('has a turn of its event loop now and then, while one message follows the other', async () => {
    const answers: string[] = [];
    // After 256 messages it asks for a turn, and Node may hand a thread's port a thousand more before.
    for (let number = 0; number < 1_500; number += 1) answers.push(await ask('turned?'));
    expect([answers[0], answers.at(-1)]).toEqual(['no', 'yes']);
  });

  it.each([
    ['throw', /^thrown in the replica$/],
    ['exit', /^(worker exited with code: 3|its process exited with code 3)$/],
  ])('that ends by %s says why, and leaves what it was given to its owner', async (key, reason) => {
    let rejection: unknown;
    const answer = ask(key).catch((error: unknown) => {
      rejection = error;
    });
    expect((await host.ended)?.message).toMatch(reason);
    expect(rejection).toBeUndefined();
    await expect(ask('now')).rejects.toThrow(reason);
    host.rejectAll(new Error('it is gone'));
    await answer;
    expect(rejection).toMatchObject({ message: 'it is gone' });
  });

  it('tells the oldest message that it has not answered, also after the sender was rejected', async () => {
    expect(await ask('now 1')).toBe('now 1');
    expect(host.unanswered).toBeUndefined();
    const asked = [ask('throw'), ask('now 2')].map((answer) => answer.catch(() => 'rejected'));
    expect(host.unanswered).toMatchObject({ model: 'throw' });
    host.rejectAll(new Error('given up'));
    expect(await Promise.all(asked)).toEqual(['rejected', 'rejected']);
    expect(host.unanswered).toMatchObject({ model: 'throw' });
    await host.ended;
  });

  it('that was never started ends at once', async () => {
    host.terminate();
    expect(await host.ended).toBeUndefined();
    await expect(ask('now')).rejects.toThrow(`the ${kind} is gone`);
  });

  it('that was told to release its sessions answers what came before, and then nothing more', async () => {
    const answers = ['later 1', 'now 2'].map(ask);
    expect(await Promise.all([...answers, host.post({ kind: 'release' })])).toEqual([
      'later 1',
      'now 2',
      { value: undefined },
    ]);
    let isAnswered = false;
    const late = ask('now 3').finally(() => {
      isAnswered = true;
    });
    host.terminate();
    await host.ended;
    expect(isAnswered).toBe(false);
    host.rejectAll(new Error('too late'));
    await expect(late).rejects.toThrow('too late');
  });
});
