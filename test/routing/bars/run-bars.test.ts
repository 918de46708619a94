import { beforeEach, describe, expect, it } from 'vitest';
import type { InfermuxError } from '../../../dist/common/errors.js';
import type { RoutedModel } from '../../../dist/routing/pending-request.js';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { A, B, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

let world: ReturnType<typeof startDispatcher>;
let names = 0;

beforeEach(() => {
  world = startDispatcher();
});

/** A request for the model whose content is this number. */
const request = (content: number, model: RoutedModel = A) =>
  world.submit(model, { feeds: { x: { type: 'float32', dims: [1, 2], data: Float32Array.of(1, content) } } });

const codeOf = (answer: Promise<unknown>) =>
  answer.then(
    () => 'answered',
    ({ code, message }: InfermuxError) => `${code}: ${message}`,
  );

function addReplica(): FakeReplica {
  names += 1;
  return world.addReplica(`r${names}`);
}

/** Ends the replica, which has what was given to it last. */
async function crash(replica: FakeReplica): Promise<void> {
  replica.isFailed = true;
  replica.crash((error) => world.dispatcher.removeReplica(replica, error));
  await flush();
}

/** A request that ends two replicas. */
async function kill(content: number, model = A): Promise<string> {
  const answer = codeOf(request(content, model));
  for (const replica of [addReplica(), addReplica()]) {
    await work();
    replica.step();
    await crash(replica);
  }
  return answer;
}

async function ask(content: number, model = A): Promise<string> {
  const answer = codeOf(request(content, model));
  const replica = addReplica();
  await work(replica);
  world.dispatcher.removeReplica(replica);
  return answer;
}

const BARRED = /^REPLICA_FAILED: .*not run again for a while/;
const MODEL_BARRED = /^REPLICA_FAILED: model "a" is blocked for a while, since its runs end replicas/;

describe('a request that ended two replicas', () => {
  it('is refused for 1 s, and twice as long after each further time; other requests are not', async () => {
    for (const whileMs of [1_000, 2_000, 4_000]) {
      expect(await kill(7)).toMatch(/^REPLICA_FAILED: r\d+ crashed/);
      // Answered: the model is not to blame.
      expect(await ask(8)).toBe('answered');
      expect(await codeOf(request(7))).toMatch(BARRED);
      world.clock.advance(whileMs - 1);
      expect(await codeOf(request(7))).toMatch(BARRED);
      world.clock.advance(1);
    }
    expect(await ask(7)).toBe('answered');
  });

  it('is no other request of the same first bytes, of other dims, of other outputs or for another model', async () => {
    const long = (last: number) => {
      const data = new Float32Array(10_000);
      data[9_999] = last;
      return { feeds: { x: { type: 'float32', dims: [1, 10_000], data } } } as const;
    };
    const killer = codeOf(world.submit(A, long(7)));
    for (const replica of [addReplica(), addReplica()]) {
      replica.step();
      await crash(replica);
    }
    await killer;
    const data = Float32Array.from(long(7).feeds.x.data);
    expect(await codeOf(world.submit(A, long(7)))).toMatch(BARRED);
    const others = [
      world.submit(A, long(8)),
      world.submit(A, { feeds: { x: { type: 'float32', dims: [10_000, 1], data } } }),
      world.submit(A, { ...long(7), outputs: ['y'] }),
      world.submit(B, long(7)),
    ];
    const replica = addReplica();
    await work(replica);
    expect(await Promise.all(others.map(codeOf))).toEqual(Array(4).fill('answered'));
  });

  it('is named in the status, with how the replica ended', async () => {
    await kill(7);
    expect(world.dispatcher.bars.harmful).toEqual([
      { model: 'a', requests: 1, reason: expect.stringContaining('crashed'), isBarred: false, nextTryInMs: 0 },
    ]);
  });
});

describe('a model of whose requests two in a row ended replicas', () => {
  beforeEach(async () => {
    await kill(1);
    await kill(2);
  });

  it('is barred, with the requests that wait for it, and other models are not', async () => {
    expect(await codeOf(request(3))).toMatch(MODEL_BARRED);
    expect(await ask(3, B)).toBe('answered');
    expect(world.dispatcher.bars.harmful).toMatchObject([{ model: 'a', isBarred: true, nextTryInMs: 1_000 }]);
  });

  it('is tried by one request after the while, and the others are refused until that one is answered', async () => {
    world.clock.advance(1_000);
    const trial = codeOf(request(3));
    expect(await codeOf(request(4))).toMatch(/one request tries it now/);
    const replica = addReplica();
    await work(replica);
    expect(await trial).toBe('answered');
    const others = [codeOf(request(4)), codeOf(request(5))];
    await work(replica);
    expect(await Promise.all(others)).toEqual(['answered', 'answered']);
    expect(world.dispatcher.bars.harmful).toMatchObject([{ isBarred: false, requests: 2 }]);
  });

  it('is barred for longer when the trial ends replicas, too', async () => {
    world.clock.advance(1_000);
    expect(await kill(3)).toMatch(/crashed/);
    world.clock.advance(1_999);
    expect(await codeOf(request(4))).toMatch(MODEL_BARRED);
    world.clock.advance(1);
    expect(await ask(4)).toBe('answered');
  });

  it('is tried by another request when the trial is cancelled', async () => {
    world.clock.advance(1_000);
    const controller = new AbortController();
    const trial = codeOf(world.submit(A, { signal: controller.signal }));
    controller.abort();
    expect(await trial).toMatch(/^CANCELLED/);
    expect(await ask(4)).toBe('answered');
  });

  it('is forgotten with the model', async () => {
    world.dispatcher.forgetModel('a@1');
    world.dispatcher.forgetModel(A.key);
    expect(world.dispatcher.bars.harmful).toEqual([]);
    expect(await ask(1)).toBe('answered');
  });
});

it('a model is not barred for requests that were under way already when the first one was', async () => {
  const [first, second] = [codeOf(request(1)), codeOf(request(2))];
  world.clock.advance(10);
  // Both end their first replica, and then each one more; two replicas more end without a request of theirs.
  for (let deaths = 0; deaths < 6; deaths += 1) {
    const replica = addReplica();
    await flush();
    while (replica.isLoading) replica.step();
    await crash(replica);
    world.clock.advance(10);
  }
  expect([await first, await second]).toEqual([expect.stringMatching(/crashed/), expect.stringMatching(/crashed/)]);
  expect(world.dispatcher.bars.harmful).toMatchObject([{ model: 'a', requests: 2, isBarred: false }]);
  expect(await ask(3)).toBe('answered');
});

it('refuses what waits for a model when it is barred', async () => {
  await kill(1);
  const killer = codeOf(request(2));
  const first = addReplica();
  first.step();
  const waiting = codeOf(request(3));
  await crash(first);
  const second = addReplica();
  await flush();
  second.step();
  await crash(second);
  expect(await killer).toMatch(/crashed/);
  expect(await waiting).toMatch(MODEL_BARRED);
});

describe('a run that nobody waits for any more', () => {
  const setUp = (killsCancelled: boolean) => {
    const replica = world.addReplica('only', 3, (own) => {
      own.killsCancelled = killsCancelled;
      own.models.set(A.key, 'loaded');
    });
    const ends: string[] = [];
    replica.abandon = ({ message }) => ends.push(message);
    const controller = new AbortController();
    world.submit(A, { signal: controller.signal });
    return { ends, controller };
  };

  it('is ended when another request waits, whichever comes first', async () => {
    const { ends, controller } = setUp(true);
    controller.abort();
    await flush();
    expect(ends).toEqual([]);
    request(1);
    request(2);
    request(3);
    await flush();
    expect(ends.length).toBeGreaterThan(0);
    expect(ends[0]).toMatch(/was cancelled .*killCancelled/);
  });

  it('goes on without killCancelled, and while somebody waits for it', async () => {
    const { ends, controller } = setUp(false);
    controller.abort();
    for (const content of [1, 2, 3]) request(content);
    await flush();
    expect(ends).toEqual([]);
    const other = startDispatcher();
    world = other;
    const own = setUp(true);
    for (const content of [1, 2, 3]) request(content);
    await flush();
    expect(own.ends).toEqual([]);
  });
});
