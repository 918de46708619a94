import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { PendingRequest } from '../../../dist/routing/pending-request.js';
import { ModelQueue } from '../../../dist/routing/queues/model-queue.js';
import { fakeModel } from '../../support/fakes/fake-requests.js';

const isBefore = (left: PendingRequest, right: PendingRequest) =>
  left.priority === right.priority ? left.sequence < right.sequence : left.priority > right.priority;

const pending = (sequence: number, priority: number) =>
  ({ sequence, priority, acceptedAt: sequence, isWaiting: false }) as PendingRequest;

it('knows its longest waiting and its least patient request, whatever the priorities', () => {
  const arrival = fc.record({
    priority: fc.nat(300),
    waitsMs: fc.option(fc.integer({ min: 1, max: 500 }), { nil: undefined }),
    leaves: fc.option(fc.nat(50), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(arrival, { maxLength: 80, size: 'max' }), (arrivals) => {
      const queue = new ModelQueue(fakeModel('a'), { maxWaitMs: 200 });
      const waiting: PendingRequest[] = [];
      for (const [at, { priority, waitsMs, leaves }] of arrivals.entries()) {
        const deadline = waitsMs === undefined ? undefined : at + waitsMs;
        const request = { ...pending(at, priority), feeds: {}, deadline } as PendingRequest;
        waiting.push(request);
        queue.add(request);
        const [gone] = leaves === undefined ? [] : waiting.splice(leaves % waiting.length, 1);
        if (gone !== undefined) expect(queue.remove(gone)).toBe(true);
        if (waiting.length === 0) continue;
        const patience = waiting.map(({ acceptedAt, deadline: until = 1_000 }) => (acceptedAt + until) / 2);
        const since = Math.min(...waiting.map(({ acceptedAt }) => acceptedAt));
        expect(queue.waitingSince).toBe(since);
        expect(queue.patientUntil(200)).toBe(Math.min(since + 200, ...patience));
        expect(queue.place).toBe(since);
        expect(queue.rows).toBe(waiting.length);
      }
    }),
  );
});

it('gives requests by priority and arrival, whatever leaves and comes back in between', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          {
            weight: 3,
            arbitrary: fc.record({ kind: fc.constant('add' as const), priority: fc.integer({ min: -2, max: 2 }) }),
          },
          { weight: 2, arbitrary: fc.record({ kind: fc.constant('take' as const), back: fc.boolean() }) },
          { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), at: fc.nat(20) }) },
        ),
        { maxLength: 80, size: 'max' },
      ),
      (steps) => {
        const queue = new ModelQueue(fakeModel('a'), 'auto');
        let expected: PendingRequest[] = [];
        const away: PendingRequest[] = [];
        for (const [sequence, step] of steps.entries()) {
          if (step.kind === 'add') {
            const request = away.pop() ?? pending(sequence, step.priority);
            queue.add(request);
            expected = [...expected, request].sort((left, right) => (isBefore(left, right) ? -1 : 1));
          } else if (step.kind === 'take') {
            const first = expected.shift();
            expect(queue.take()).toBe(first);
            if (first !== undefined && step.back) away.push(first);
          } else {
            const request = expected[step.at];
            if (request === undefined) continue;
            expect(queue.remove(request)).toBe(true);
            expect(queue.remove(request)).toBe(false);
            expected.splice(step.at, 1);
          }
          expect(queue.head).toBe(expected[0]);
          expect(queue.size).toBe(expected.length);
          const oldest = Math.min(...expected.map(({ acceptedAt }) => acceptedAt));
          expect(queue.waitingSince).toBe(expected.length === 0 ? undefined : oldest);
        }
        expect(expected.map(() => queue.take())).toEqual(expected);
      },
    ),
  );
});
