import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../dist/common/errors.js';
import { toErrorRecord } from '../../dist/common/values/error-record.js';
import type { ReplicaEvent } from '../../dist/protocol/events.js';
import type { ReplicaMessage } from '../../dist/protocol/messages.js';
import { bufferToReturn } from '../../dist/protocol/packing.js';
import { QueueCounters, type ReplicaCounters } from '../../dist/protocol/queue-counters.js';
import type { ReplicaHost } from '../../dist/replicas/hosts/replica-host.js';
import { Replica } from '../../dist/replicas/replica.js';
import { FakeClock } from '../support/fakes/fake-clock.js';
import { fakeModel } from '../support/fakes/fake-requests.js';

interface Task {
  readonly message: ReplicaMessage;
  readonly answer: (answer: unknown) => void;
  readonly fail: (error: Error) => void;
}

/** A thread that answers when it is told to. */
class FakeThread implements ReplicaHost {
  readonly kind = 'thread';
  readonly pid = undefined;
  readonly leadMs = 1;
  readonly isAlive = false;
  readonly unanswered = undefined;
  readonly tasks: Task[] = [];
  readonly ended: Promise<Error | undefined>;
  isTerminated = false;
  emit: (event: ReplicaEvent) => void = () => undefined;
  end: (cause: Error | undefined) => void = () => undefined;

  constructor() {
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
  }

  get kinds(): string[] {
    return this.tasks.map(({ message }) => message.kind);
  }

  post(message: ReplicaMessage): Promise<unknown> {
    return new Promise((answer, fail) => this.tasks.push({ message, answer, fail }));
  }

  rejectAll(error: Error): void {
    for (const { fail } of this.tasks) fail(error);
  }

  onEvent(listener: (event: ReplicaEvent) => void): void {
    this.emit = listener;
  }

  terminate(): void {
    this.isTerminated = true;
    this.end(undefined);
  }
}

const A = fakeModel('a');
const group = { feeds: [{}], joined: false, outputs: undefined, checked: true, hasApart: false };
const request = { model: A, groups: [group], spare: [], verify: false };
const call = { requests: 1, joined: false, runMs: [1], outputs: [], error: undefined };
const answered = { value: { loadMs: 0, calls: [[call]], verification: undefined, buffer: undefined } };
const LOADED = {
  weights: 'private' as const,
  loadMs: 3,
  nextLoadMs: 3,
  bytes: 9,
  memoryBytes: 9,
  metadata: { inputs: [], outputs: [], omittedOutputs: [] },
};
const turn = () => new Promise((resolve) => setImmediate(resolve));

let clock: FakeClock;
let thread: FakeThread;
let counters: ReplicaCounters;
let replica: Replica;
let story: string[];

beforeEach(() => {
  clock = new FakeClock();
  thread = new FakeThread();
  counters = new QueueCounters(1).take()?.counters as ReplicaCounters;
  story = [];
  const options = {
    ...{
      id: 'r0',
      deployment: 'd',
      labels: {},
      isHandler: false,
      isExpress: false,
      killsCancelled: false,
      maxModels: -1,
    },
    ...{ startTimeoutMs: 1_000, modelIdleTimeoutMs: 50, maxModelBytes: -1 },
    ...({ weights: 'auto', session: {} } as const),
  };
  replica = new Replica(options, thread, counters, clock, {
    stateChanged: (_, state) => story.push(state),
    failed: (failed) => story.push(`failed with ${failed.loadUnderWay?.key ?? 'no load'} under way`),
    modelChanged: (changed, key) => story.push(`${key} ${changed.models.get(key) ?? 'gone'}`),
    event: () => undefined,
  });
});

async function startReplica(): Promise<void> {
  const started = replica.start();
  thread.tasks[0]?.answer({ value: { onnxruntimeVersion: '1.30.0', providers: ['cpu'] } });
  await started;
}

it('knows which of its models are pinned', async () => {
  await startReplica();
  const B = fakeModel('b');
  const load = async (model: typeof A, pin: boolean) => {
    const loaded = replica.load(model, { pin });
    thread.emit({ kind: 'model-loaded', key: model.key, ...LOADED });
    thread.tasks.at(-1)?.answer({ value: undefined });
    await loaded;
  };
  await load(A, true);
  await load(B, false);
  expect([...replica.pinned]).toEqual([A.key]);
  thread.emit({ kind: 'model-unloaded', key: A.key, reason: 'unloaded', unloadMs: 1, idleMs: 1 });
  expect([...replica.pinned]).toEqual([]);
  // It failed, so what is there is not pinned.
  const refused = replica.load(B, { pin: true });
  thread.tasks.at(-1)?.answer({ error: toErrorRecord(new InfermuxError('FAILED_PRECONDITION', 'no place')) });
  await expect(refused).rejects.toThrow('no place');
  expect([...replica.pinned]).toEqual([]);
});

describe('starting', () => {
  it('counts as running after the hello, and takes nothing before it', async () => {
    await expect(replica.run(request)).rejects.toMatchObject({
      code: 'REPLICA_FAILED',
      message: 'replica r0 is starting',
    });
    await startReplica();
    expect(replica.state).toBe('running');
    expect(clock.timers).toBe(0);
  });

  it.each<[string, () => void]>([
    [
      'the hello says why not',
      () => thread.tasks[0]?.answer({ error: toErrorRecord(new InfermuxError('REPLICA_FAILED', 'why not')) }),
    ],
    ['the task fails', () => thread.tasks[0]?.fail(new Error('why not'))],
    ['the thread ends', () => thread.end(new Error('why not'))],
  ])('fails with the reason when %s', async (_, go) => {
    const started = replica.start();
    go();
    await expect(started).rejects.toMatchObject({
      code: 'REPLICA_FAILED',
      message: expect.stringContaining('why not'),
    });
    expect(replica.state).toBe('failed');
    await turn();
    expect(thread.isTerminated).toBe(true);
  });

  it('gives up on a thread that never answers, without waiting for it any more', async () => {
    const started = replica.start();
    clock.advance(1_000);
    await expect(started).rejects.toThrow('did not start within 1000 ms');
    await turn();
    expect({ kinds: thread.kinds, isTerminated: thread.isTerminated }).toEqual({
      kinds: ['hello'],
      isTerminated: true,
    });
  });

  it('told to stop meanwhile, ends the thread only outside a native call', async () => {
    const started = replica.start();
    started.catch(() => undefined);
    counters.enterNativeCall();
    const stopped = replica.stop({ hurry: true });
    await turn();
    expect(thread.isTerminated).toBe(false);
    counters.leaveNativeCall();
    await stopped;
    expect({ isTerminated: thread.isTerminated, state: replica.state }).toEqual({
      isTerminated: true,
      state: 'stopped',
    });
  });
});

describe('running', () => {
  it('counts a model as loading from the order on, and as loaded before the answer is told', async () => {
    await startReplica();
    const answer = replica.run(request).then(() => story.push('answer'));
    expect([...replica.models]).toEqual([['a@1', 'loading']]);
    expect({ isLoading: replica.isLoading, loadUnderWay: replica.loadUnderWay }).toEqual({
      isLoading: true,
      loadUnderWay: undefined,
    });
    thread.emit({ kind: 'model-loading', key: 'a@1', id: 'a', bytes: 10 });
    thread.emit({ kind: 'model-loaded', key: 'a@1', ...LOADED });
    thread.tasks[1]?.answer(answered);
    await answer;
    expect(story).toEqual(['running', 'a@1 loading', 'a@1 loaded', 'answer']);
  });

  it('fills the buffer of a large message again that came back with the answer, and no other', async () => {
    await startReplica();
    const data = new Float32Array(10_000);
    const feeds = Array.from({ length: 10 }, () => ({ x: { type: 'float32', dims: [data.length], data } as const }));
    const buffers: unknown[] = [];
    for (const comesBack of [false, true, false]) {
      const answer = replica.run({ ...request, groups: [{ ...group, feeds }] });
      const task = thread.tasks.at(-1);
      if (task?.message.kind !== 'run') throw new Error('nothing was posted');
      const buffer = bufferToReturn(task.message.groups);
      buffers.push(buffer);
      task.answer({ value: { ...answered.value, buffer: comesBack ? buffer : undefined } });
      await answer;
    }
    expect(buffers[0]).toBeInstanceOf(ArrayBuffer);
    expect(buffers[1]).not.toBe(buffers[0]);
    expect(buffers[2]).toBe(buffers[1]);
  });

  it('forgets a model whose load failed without an event, since the failure was only remembered', async () => {
    await startReplica();
    const answer = replica.run(request);
    thread.tasks[1]?.answer({ error: toErrorRecord(new InfermuxError('MODEL_LOAD_FAILED', 'broken')) });
    await expect(answer).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED' });
    expect({ models: replica.models.size, isLoading: replica.isLoading }).toEqual({ models: 0, isLoading: false });
  });

  it('asks the thread to let go of unused models when their time has come', async () => {
    await startReplica();
    thread.emit({ kind: 'model-loaded', key: 'a@1', ...LOADED });
    clock.advance(50);
    expect(thread.kinds).toEqual(['hello', 'expire']);
    thread.tasks[1]?.answer({ value: { nextInMs: 20 } });
    await turn();
    clock.advance(20);
    expect(thread.kinds).toEqual(['hello', 'expire', 'expire']);
  });
});

describe('dying', () => {
  it('tells of the last events first, then that it failed, and then rejects what it was given', async () => {
    await startReplica();
    const answer = replica.run(request).catch(({ code }: InfermuxError) => story.push(code));
    thread.emit({ kind: 'model-loading', key: 'a@1', id: 'a', bytes: 10 });
    thread.end(new Error('out of luck'));
    await answer;
    expect(story).toEqual(['running', 'a@1 loading', 'failed', 'failed with a@1 under way', 'REPLICA_FAILED']);
    expect({ ongoing: replica.ongoing, models: replica.models.size }).toEqual({ ongoing: 0, models: 0 });
  });

  it('does not blame a load that has ended', async () => {
    await startReplica();
    const answer = replica.run(request).catch(() => undefined);
    thread.emit({ kind: 'model-loading', key: 'a@1', id: 'a', bytes: 10 });
    thread.emit({ kind: 'model-loaded', key: 'a@1', ...LOADED });
    thread.tasks[1]?.fail(new Error('died in the run'));
    await answer;
    expect(story).toContain('failed with no load under way');
  });
});

describe('stopping', () => {
  it('lets given work end, releases the sessions, and ends the thread once', async () => {
    await startReplica();
    const answer = replica.run(request);
    const stopped = replica.stop({ hurry: false });
    await expect(replica.run(request)).rejects.toMatchObject({ code: 'REPLICA_FAILED' });
    expect(counters.enterNativeCall()).toBe(true);
    counters.leaveNativeCall();
    thread.tasks[1]?.answer(answered);
    await answer;
    expect(thread.kinds).toEqual(['hello', 'run', 'release']);
    thread.tasks[2]?.answer({ value: undefined });
    await Promise.all([stopped, replica.stop({ hurry: true })]);
    expect(story.filter((line) => !line.startsWith('a@1'))).toEqual(['running', 'draining', 'stopped']);
  });

  it('in a hurry begins nothing more, and rejects what was not answered', async () => {
    await startReplica();
    const answer = replica.run(request);
    const stopped = replica.stop({ hurry: true });
    expect(counters.enterNativeCall()).toBe(false);
    thread.tasks[2]?.answer({ value: undefined });
    await stopped;
    await expect(answer).rejects.toMatchObject({ code: 'REPLICA_FAILED', message: 'replica r0 stopped' });
  });

  it('waits for a native call that goes on after the release', async () => {
    await startReplica();
    counters.enterNativeCall();
    const stopped = replica.stop({ hurry: true });
    thread.tasks[1]?.answer({ value: undefined });
    await turn();
    expect(thread.isTerminated).toBe(false);
    counters.leaveNativeCall();
    await stopped;
  });
});
