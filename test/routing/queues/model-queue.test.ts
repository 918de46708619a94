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

it('adds up what its requests have waited since they came, or since the last load of the model ended', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), priority: fc.nat(2) }),
    fc.record({ kind: fc.constantFrom('take' as const, 'remove' as const, 'come back' as const), at: fc.nat(20) }),
    fc.record({ kind: fc.constant('load' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const queue = new ModelQueue(fakeModel('a'), 'auto');
      const waiting = new Set<PendingRequest>();
      const away: PendingRequest[] = [];
      let loadEndedAt = 0;
      for (const [now, next] of steps.entries()) {
        const back = next.kind === 'come back' ? away.pop() : undefined;
        const added = next.kind === 'add' ? pending(now, next.priority) : back;
        if (added !== undefined) {
          queue.add(added);
          waiting.add(added);
        } else if (next.kind === 'take') {
          const taken = queue.take();
          if (taken !== undefined && waiting.delete(taken)) away.push(taken);
        } else if (next.kind === 'remove') {
          const gone = [...waiting][next.at];
          if (gone !== undefined && waiting.delete(gone)) queue.remove(gone);
        } else if (next.kind === 'load') {
          queue.loadEnded(now);
          loadEndedAt = now;
        }
        const waits = [...waiting].map(({ acceptedAt }) => now + 1 - Math.max(acceptedAt, loadEndedAt));
        expect(queue.totalWaitedMs(now + 1)).toBe(waits.reduce((sum, wait) => sum + wait, 0));
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
