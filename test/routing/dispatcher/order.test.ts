import { beforeEach, describe, expect, it } from 'vitest';
import { A, B, C, type DispatcherSettings, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

let { given, addReplica, submit } = startDispatcher();

function setUp(settings?: DispatcherSettings): void {
  ({ given, addReplica, submit } = startDispatcher(settings));
}

beforeEach(() => setUp());

describe('order', () => {
  it('serves a model by priority, then by arrival', async () => {
    const replica = addReplica('r0', 1);
    replica.runMs = 100;
    const order: string[] = [];
    const track = (name: string, priority: number) => submit(A, { priority }).then(() => order.push(name));
    const answers = [track('running', 0), track('low', -1), track('first', 0), track('high', 5), track('second', 0)];
    await work(replica);
    await Promise.all(answers);
    expect(order).toEqual(['running', 'high', 'first', 'second', 'low']);
  });

  it('serves the model whose request is oldest when several wait for the same replica', async () => {
    setUp({ maxOngoingRequests: 1 });
    const replica = addReplica('r0');
    for (const model of [A, B, C]) submit(model);
    await work(replica);
    given.length = 0;
    for (const model of [C, A, B, A]) submit(model);
    await work(replica);
    expect(given).toEqual(['c>r0', 'a>r0', 'b>r0', 'a>r0']);
  });
});

it('serves all that waited for a model when it was loaded before it turns to others, and no more', async () => {
  const replica = addReplica('r0', 1);
  replica.runMs = 5;
  for (const model of [A, B, B, C, B]) submit(model);
  await work(replica);
  expect(given).toEqual(['a>r0', 'b>r0', 'b>r0', 'b>r0', 'c>r0']);

  given.length = 0;
  // The load is ordered for the first of these; the others for a came later and wait their turn.
  for (const model of [A, C, A, A]) submit(model);
  await work(replica);
  expect(given).toEqual(['a>r0', 'c>r0', 'a>r0', 'a>r0']);
});

it('gives a slot to the model that waited for it longest, even when the next call comes before its answer', async () => {
  const replica = addReplica('r0');
  for (const model of [A, B]) submit(model);
  await work(replica);
  replica.runMs = 50;
  submit(A);
  await work(replica);
  given.length = 0;
  submit(A);
  const waiting = submit(B);
  for (let round = 0; round < 3; round += 1) {
    // The thread is done, which the counters show, but the answer has not been handled when the caller calls again.
    replica.step();
    submit(A);
  }
  expect(given.slice(0, 2)).toEqual(['a>r0', 'b>r0']);
  await work(replica);
  await waiting;
});

it('does not let prefetched requests for a warm model keep out an older one for a cold model', async () => {
  const replica = addReplica('r0');
  submit(A);
  await work(replica);
  submit(A);
  submit(A);
  expect(replica.ongoing).toBe(2);
  submit(B);
  for (let request = 0; request < 5; request += 1) submit(A);
  given.length = 0;
  await work(replica);
  expect(given.slice(0, 2)).toEqual(['b>r0', 'a>r0']);
});
