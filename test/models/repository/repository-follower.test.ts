import { beforeEach, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import { RepositoryFollower } from '../../../dist/models/repository/repository-follower.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { flush } from '../../support/flush.js';

let clock: FakeClock;
let looks: number[];
let story: string[];
let failing: InfermuxError | undefined;
let unsettled: string[];
let failed: string[];
/** What happens during a look. */
let meanwhile: () => void;

beforeEach(() => {
  clock = new FakeClock();
  looks = [];
  story = [];
  failing = undefined;
  unsettled = [];
  failed = [];
  meanwhile = () => undefined;
});

function follower(pollMs: number): RepositoryFollower {
  const look = async () => {
    looks.push(clock.now());
    if (failing !== undefined) throw failing;
    meanwhile();
    const errors = failed.map((id) => ({ id, error: new InfermuxError('FAILED_PRECONDITION', 'no answer') }));
    return { added: [], changed: [], removed: [], unsettled, failed: errors, passedOver: {} };
  };
  return new RepositoryFollower(pollMs, look, clock, {
    unreadable: ({ message }, failuresInRow) => story.push(`${message} ${failuresInRow}`),
    readableAgain: () => story.push('readable'),
  });
}

async function pass(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    clock.advance(1_000);
    await flush();
  }
}

it('looks every so often', async () => {
  follower(2_000).follow(0);
  await pass(7);
  expect(looks).toEqual([2_000, 4_000, 6_000]);
});

it('waits twice as long after each look that failed, up to 64 s, and says when it can be read again', async () => {
  failing = new InfermuxError('FAILED_PRECONDITION', 'gone');
  follower(1_000).follow(0);
  await pass(200);
  expect(looks.map((at) => at / 1_000)).toEqual([1, 3, 7, 15, 31, 63, 127, 191]);
  expect(story.slice(0, 2)).toEqual(['gone 1', 'gone 2']);
  failing = undefined;
  await pass(58);
  expect([story.at(-1), looks.slice(-4).map((at) => at / 1_000)]).toEqual(['readable', [255, 256, 257, 258]]);
});

it('looks again at a directory that is not followed only as long as something is being written', async () => {
  unsettled = ['a'];
  follower(0).follow(1);
  await pass(2);
  unsettled = [];
  await pass(5);
  expect(looks).toEqual([1_000, 2_000, 3_000]);
  follower(0).follow(0);
  expect(clock.timers).toBe(0);
});

it('looks again with growing pauses at what nobody can answer about, and at once when it is told to', async () => {
  unsettled = ['a'];
  failed = ['a'];
  const following = follower(0);
  following.follow(1);
  await pass(16);
  expect(looks).toEqual([1_000, 3_000, 7_000, 15_000]);
  following.soon();
  clock.advance(1);
  await flush();
  unsettled = [];
  await pass(40);
  expect(looks.slice(4)).toEqual([16_001, 48_001]);
  expect(clock.timers).toBe(0);
});

it('looks again when another look has left something unsettled', async () => {
  const following = follower(0);
  following.follow(0);
  following.seen(0);
  expect(clock.timers).toBe(0);
  following.seen(1);
  following.seen(2);
  expect(clock.timers).toBe(1);
  await pass(5);
  expect(looks).toEqual([1_000]);
});

it('looks once more after a look under way that may have been too early', async () => {
  const following = follower(0);
  meanwhile = () => {
    meanwhile = () => undefined;
    following.soon();
    following.soon();
  };
  following.soon();
  await pass(5);
  expect(looks).toHaveLength(2);
});

it('stops', async () => {
  const stopped = follower(1_000);
  stopped.follow(0);
  await pass(1);
  stopped.stop();
  await pass(3);
  expect([looks, clock.timers]).toEqual([[1_000], 0]);
});
