import { beforeEach, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import { flush } from '../../support/flush.js';
import { A, B, type DispatcherSettings, startDispatcher } from '../../support/routing/start-dispatcher.js';

let { clock, dispatcher, given, addReplica, submit } = startDispatcher();

function setUp(settings?: DispatcherSettings): void {
  ({ clock, dispatcher, given, addReplica, submit } = startDispatcher(settings));
}

beforeEach(() => setUp());

it('gives a replica more when it is done, while a caller sends many requests without a pause', async () => {
  setUp({ maxOngoingRequests: 100, maxQueuedRequests: -1, defers: true });
  const replica = addReplica('r0');
  const answers: Promise<unknown>[] = [];
  // Nothing is awaited here and nothing that was put off is run: no answer is handled before the last request is sent.
  for (let request = 0; request < 2_560; request += 1) {
    answers.push(submit(A));
    while (replica.step());
  }
  expect(given).toHaveLength(10);
  let answered = 0;
  for (const answer of answers) answer.finally(() => (answered += 1));
  for (let rounds = 0; rounds < 2 * answers.length && answered < answers.length; rounds += 1) {
    clock.runDeferred();
    replica.step();
    await flush();
  }
  expect(answered).toBe(answers.length);
});

it('looks at all replicas and models then, not only at those of the last request', async () => {
  setUp({ maxOngoingRequests: 100, maxQueuedRequests: -1, defers: true });
  const replicas = [addReplica('r0'), addReplica('r1')];
  const answers: Promise<unknown>[] = [];
  for (let request = 0; request < 2_560; request += 1) {
    answers.push(submit(request % 2 === 0 ? A : B));
    for (const replica of replicas) while (replica.step());
  }
  const [ofA, ofB] = ['a>', 'b>'].map((model) => given.filter((line) => line.startsWith(model)).length);
  expect(ofA).toBeGreaterThanOrEqual(9);
  expect(ofB).toBeGreaterThanOrEqual(9);
  dispatcher.destroy(new InfermuxError('ENGINE_CLOSED', 'the test is over'));
  while (!dispatcher.isIdle) clock.runDeferred();
  await Promise.allSettled(answers);
});

it('does not take callers who ask again for one that sends without a pause, so that a turn stays over', async () => {
  setUp({ maxQueuedRequests: -1, defers: true, lookAfterRequests: 4 });
  const replica = addReplica('r0');
  submit(A);
  clock.runDeferred();
  while (replica.step());
  await flush();
  expect(given).toEqual(['a>r0']);
  // The turn that began with the answer is over, and what comes now is for the next.
  clock.advance(2);
  for (let request = 0; request < 4; request += 1) submit(A);
  expect(given).toEqual(['a>r0']);
  // One more than the answered one and four.
  submit(A);
  expect(given.length).toBeGreaterThan(1);
  dispatcher.destroy(new InfermuxError('ENGINE_CLOSED', 'the test is over'));
});
