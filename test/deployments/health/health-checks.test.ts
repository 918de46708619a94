import { beforeEach, expect, it } from 'vitest';
import { HealthChecks } from '../../../dist/deployments/health/health-checks.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { flush } from '../../support/flush.js';

let clock: FakeClock;
let story: string[];
let checks: HealthChecks<Checked>;

class Checked {
  readonly id = 'r0';
  isInLoad = false;
  asked = 0;
  /** What the next checks come to; the last one stays. */
  answers: ('well' | 'ill' | 'silent')[] = ['well'];

  checkHealth(): Promise<void> {
    this.asked += 1;
    const answer = this.answers.length > 1 ? this.answers.shift() : this.answers[0];
    if (answer === 'silent') return new Promise(() => undefined);
    return answer === 'well' ? Promise.resolve() : Promise.reject(new Error('out of sorts'));
  }
}

const advance = async (milliseconds: number) => {
  for (let passed = 0; passed < milliseconds; passed += 10) {
    clock.advance(10);
    await flush();
  }
};

beforeEach(() => {
  clock = new FakeClock();
  story = [];
  checks = new HealthChecks(() => ({ periodMs: 100, timeoutMs: 50, failures: 3 }), clock, {
    failed: (_, { message }, failuresInRow) => story.push(`${failuresInRow}: ${message}`),
    unhealthy: (_, { code }) => story.push(`unhealthy ${code}`),
  });
});

it('asks every period, and says nothing of what is well', async () => {
  const replica = new Checked();
  checks.watch(replica);
  await advance(90);
  expect(replica.asked).toBe(0);
  await advance(250);
  expect(replica.asked).toBe(3);
  expect(story).toEqual([]);
});

it('gives up on one that fails so many checks in a row, and asks it no more', async () => {
  const replica = new Checked();
  replica.answers = ['ill', 'ill', 'well', 'ill'];
  checks.watch(replica);
  await advance(2_000);
  const ill = 'health check failed: out of sorts';
  expect(story).toEqual([`1: ${ill}`, `2: ${ill}`, `1: ${ill}`, `2: ${ill}`, `3: ${ill}`, 'unhealthy REPLICA_FAILED']);
  expect(replica.asked).toBe(6);
  expect(clock.timers).toBe(0);
});

it('takes silence for illness, but not while a model is loading', async () => {
  const replica = new Checked();
  replica.answers = ['silent'];
  replica.isInLoad = true;
  checks.watch(replica);
  await advance(1_000);
  expect(story).toEqual([]);
  replica.isInLoad = false;
  await advance(60);
  expect(story).toEqual(['1: no answer to a health check within 50 ms']);
});

it('forgets one that left, also in the middle of a check', async () => {
  const replica = new Checked();
  replica.answers = ['silent'];
  checks.watch(replica);
  await advance(110);
  checks.forget(replica);
  expect(clock.timers).toBe(0);
  await advance(1_000);
  expect(story).toEqual([]);
});
